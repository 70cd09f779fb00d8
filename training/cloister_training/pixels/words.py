"""What consoles and technologists write on films: invented identifiers, and markers that may stay.

Before it: nothing. After it: `synthesis` draws the lines. Nobody's name: given and family names are
common ones, put together by chance.
"""

from __future__ import annotations

import random
import string
from dataclasses import dataclass

from .fonts import ARABIC, CJK, CYRILLIC, DIGITS, GREEK, LATIN

FAMILY = {
    LATIN: "Smith Johnson Müller Schmidt García Martínez Nguyen Kowalski Novák O'Brien Jensen Åström Öztürk "
    "Dubois Lefèvre Rossi Silva Santos Popescu Tamm Virtanen Nagy Horváth Çelik Løvås Brown Wilson Li Ng Wu",
    CYRILLIC: "Иванов Смирнова Кузнецов Попова Шевченко Ковальчук Петров Соколова Щербаков Йовчев",
    GREEK: "Παπαδόπουλος Γεωργίου Νικολάου Δημητρίου Ιωάννου Χριστοδούλου",
    CJK: "王 李 張 陳 林 黄 佐藤 鈴木 高橋 田中 渡辺 伊藤 刘 杨 赵",
    ARABIC: "محمد علي حسن الخطيب منصور حداد صالح قاسم",
}
GIVEN = {
    LATIN: "John Mary Anna Peter José María Jürgen Zoë Björn Łukasz Thi Élise Giulia Carlos Ivana Hans Aino "
    "Ali Fatma Per Ana Wei Xin Jo Max Eva Ida Tom",
    CYRILLIC: "Иван Мария Олег Юлия Андрей Щеголь Наталья",
    GREEK: "Μαρία Γιώργος Ελένη Ξένια Κώστας",
    CJK: "小明 美玲 建國 太郎 花子 一郎 伟 芳 娜",
    ARABIC: "فاطمة أحمد خالد ليلى يوسف",
}
WORDS = {
    CJK: "國立醫院 病歷 氏名 生年月日 胸部 正面 男 女 撮影",
    ARABIC: "مستشفى الاسم تاريخ ذكر أنثى",
    CYRILLIC: "Больница Пациент Дата Мужской ОГК",
    GREEK: "Νοσοκομείο Ασθενής Άνδρας Θώρακος",
}
PLACES = (
    "ST. MARY HOSPITAL", "General Hospital", "UNIV KLINIKUM", "Radiology Dept.", "City Clinic", "CHU de Lyon",
    "Regional Med Ctr", "Emergency Room 3", "ICU Bed 12", "KH NORD", "Hospital San José", "Mobile X-Ray",
)  # fmt: skip
MARKERS = (
    "L", "R", "L", "R", "PA", "AP", "LAT", "ERECT", "SUPINE", "PORTABLE", "SITTING", "UPRIGHT", "SEMI-ERECT",
    "LEFT", "RIGHT", "DECUB", "INSP", "EXP", "LL", "RL", "MOBILE", "STANDING", "Li", "Re",
)  # fmt: skip
MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]


@dataclass(frozen=True)
class Block:
    """Lines that stand below each other, and whether they are a marker."""

    lines: tuple[str, ...]
    marker: bool


def _digits(rng: random.Random, low: int, high: int) -> str:
    return "".join(rng.choices(string.digits, k=rng.randint(low, high)))


def _date(rng: random.Random) -> str:
    year, month, day = rng.randint(1921, 2026), rng.randint(1, 12), rng.randint(1, 28)
    return rng.choice(
        (
            f"{day:02d}.{month:02d}.{year}", f"{month}/{day}/{year}", f"{year}-{month:02d}-{day:02d}",
            f"{year}{month:02d}{day:02d}", f"{day:02d}-{MONTHS[month - 1]}-{year}", f"{day} {MONTHS[month - 1].title()} {year}",
            f"DOB {day:02d}/{month:02d}/{year % 100:02d}",
        )
    )  # fmt: skip


def _time(rng: random.Random) -> str:
    clock = f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}"
    return rng.choice(
        (clock, f"{clock}:{rng.randint(0, 59):02d}", f"{clock} {rng.choice(('AM', 'PM'))}", f"@{clock}")
    )


def _name(rng: random.Random, script: str) -> str:
    family, given = rng.choice(FAMILY[script].split()), rng.choice(GIVEN[script].split())
    if script == CJK:
        return family + rng.choice(("", " ")) + given
    text = rng.choice(
        (
            f"{family}, {given}",
            f"{family}^{given}",
            f"{given} {family}",
            f"{family} {given[0]}.",
            family,
            f"{family},{given}",
        )
    )
    return text.upper() if rng.random() < 0.5 and script != ARABIC else text


def _technique(rng: random.Random) -> str:
    return rng.choice(
        (
            f"{rng.randint(55, 140)} kVp {rng.uniform(0.5, 20):.1f} mAs", f"kV {rng.randint(55, 140)}",
            f"{rng.randint(100, 640)} mA {rng.randint(2, 400)} ms", f"SID {rng.choice((100, 115, 150, 180))} cm",
            f"EI {rng.randint(150, 3000)} DI {rng.uniform(-3, 3):.1f}", f"W {rng.randint(500, 4096)} L {rng.randint(100, 2048)}",
            f"Zoom {rng.randint(20, 200)}%", f"Se:{rng.randint(1, 9)} Im:{rng.randint(1, 4)}", f"{rng.uniform(0.1, 40):.2f} uGy*m2",
        )
    )  # fmt: skip


def _number(rng: random.Random) -> str:
    code = _digits(rng, 4, 10)
    return rng.choice(
        (
            code, f"MRN {code}", f"ID: {code}", f"Acc {rng.choice(string.ascii_uppercase)}{code}", f"#{code}",
            f"{code[:3]}-{code[3:]}", f"Pat.Nr. {code}", f"{rng.choice(string.ascii_uppercase)}{code}", f"PID:{code}",
        )
    )  # fmt: skip


def line(rng: random.Random, scripts: tuple[str, ...]) -> str:
    """One line of an overlay in one of the scripts a face has."""
    script = rng.choice(scripts)
    if script == DIGITS:
        return rng.choice(
            (
                _digits(rng, 2, 8),
                f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}",
                f"{_digits(rng, 1, 3)}.{_digits(rng, 1, 2)}",
            )
        )
    if script != LATIN:
        return _name(rng, script) if rng.random() < 0.6 else rng.choice(WORDS[script].split())
    kind = rng.random()
    if kind < 0.3:
        return _name(rng, LATIN)
    if kind < 0.45:
        return _number(rng)
    if kind < 0.58:
        return _date(rng)
    if kind < 0.66:
        return f"{_date(rng)} {_time(rng)}" if rng.random() < 0.5 else _time(rng)
    if kind < 0.76:
        return _technique(rng)
    if kind < 0.84:
        return rng.choice(PLACES)
    if kind < 0.9:  # initials, sex, age, single signs
        return rng.choice(
            (
                "".join(rng.choices(string.ascii_uppercase, k=rng.randint(2, 3))), f"{rng.randint(1, 99)}Y", "M", "F",
                f"Tech: {rng.choice(string.ascii_uppercase)}{rng.choice(string.ascii_uppercase)}", f"{rng.randint(1, 99)} y/o {rng.choice('MF')}",
                _digits(rng, 1, 2), rng.choice(string.ascii_letters), "CHEST 1V", "Thorax p.a.",
            )
        )  # fmt: skip
    letters = string.ascii_letters + string.digits + "-./:#&()"
    return " ".join("".join(rng.choices(letters, k=rng.randint(1, 9))) for _ in range(rng.randint(1, 3)))


def block(rng: random.Random, scripts: tuple[str, ...], markers: bool) -> Block:
    """Lines of an overlay, or one marker."""
    if markers and LATIN in scripts:
        return Block((rng.choice(MARKERS),), True)
    count = rng.choices((1, 2, 3, 4, 6), (10, 4, 3, 2, 1))[0]
    return Block(tuple(line(rng, scripts) for _ in range(count)), False)
