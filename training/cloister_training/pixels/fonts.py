"""The fonts of the films with text: Debian packages, pinned, and two families that share none.

Before it: a Debian mirror (`apt-get download`), or packages that are already in the cache. After it:
`synthesis` writes with the faces. Clones stay together or out: Arimo is Liberation Sans, Hack is DejaVu
Sans Mono, Carlito is Lato. Of the Hershey strokes either family has other alphabets. Nothing of a font
is committed.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from . import strokes

Family = Literal["training", "evaluation"]
Ink = NDArray[np.float32]


@dataclass(frozen=True)
class Package:
    """A Debian 12 package; the hash is the .deb's."""

    name: str
    version: str
    licence: str
    sha256: str


# fmt: off
PACKAGES = (
    Package("fonts-dejavu-core", "2.37-6", "Bitstream-Vera", "8892669e51aab4dc56682c8e39d8ddb7d70fad83c369344e1e240bf3ca22bb76"),
    Package("fonts-dejavu-extra", "2.37-6", "Bitstream-Vera", "6cb7ed32de6df209c065e9e5cc5154a2f36d4c334d9a0af534fabb67d38ab75b"),
    Package("fonts-roboto-unhinted", "2:0~20170802-3", "Apache-2.0", "f89cf7d8a589489daecf750031ec50456ab3e648d49ff544f0f08753268fbd91"),
    Package("fonts-lato", "2.0-2.1", "OFL-1.1", "86f50af146a7df9eca4e69f0262e73e708908435ebfa833df797adfa08843bc5"),
    Package("fonts-inconsolata", "001.010-6", "OFL-1.0", "bb5015c631cd47aa7d9d6e0ecd101f0e1234300f935e7719ea32ed9b640f0ac4"),
    Package("fonts-jetbrains-mono", "2.242+ds-3", "OFL-1.1", "516b8e3bacc9a30cf615543fa1fdaf0c5312284f2c4459b7838fd008fd9936bc"),
    Package("fonts-humor-sans", "1.0-4", "OFL-1.1", "84bd0c40b65dc345e05396a4ffb64282c14fbbb6e7079126eeabc92bd9fe7311"),
    Package("fonts-breip", "1:0.5.1-3", "OFL-1.0", "1f0ea903300b89cb55d107ee4a12be82118ada0384d8bd9db0aad8e1f8c1aa49"),
    Package("fonts-dkg-handwriting", "0.17-1", "OFL-1.1", "82ee9beae0313e11761af7bb81f4c3fdc91ddd6122ab78490e1b103b9f502709"),
    Package("fonts-kristi", "20101220-1", "OFL-1.1", "03cdbe9ca6cb5ea863ad652ea94313666f275de526c3cb01e252da93019001c2"),
    Package("fonts-ecolier-court", "1.00-6", "OFL-1.1", "8ce2aba588adffc3bff453dae91af24b26ba7d0ce458127ad38f68d4fd36415b"),
    Package("fonts-comic-neue", "2.51-4", "OFL-1.1", "6f002dc90d62fde01a2b51f333c09dc6c21ffbfc6ca22d05a84cc049b083c826"),
    Package("fonts-wqy-microhei", "0.2.0-beta-3.1", "Apache-2.0", "239163df984eea5c9da3b551aee374936222cdbd67f1a1be3cdcf3d76143ad66"),
    Package("fonts-vlgothic", "20220612-1", "BSD-3-Clause", "81b0a42456747e7ec2f801028b254c33f8c720a99e15140c23f0861329687448"),
    Package("fonts-kacst", "2.01+mry-15", "GPL-2", "1a83306b736dbc0a26a10d89b924f1aaaa6743ab5218b2b474be6bbb00b6fa89"),
    Package("fonts-terminus-otb", "4.48-3.1", "OFL-1.1", "a659226b011188a9f9d17e6ec38eebe774f3bcb06589d84f39ba25283098bc70"),
    Package("fonts-unifont", "1:15.0.01-2", "GPL-2+FE", "cd46245f1b228d1277ed2b453ce893fde1cf4bf4ec317e82b0079395bdc9c2b5"),
    Package("fonts-ocr-b", "0.3~dfsg1-1", "X11", "56e6a6bfe5d77bbb4f0a6964ce1f8ed3679d7c1a138064bcaf6cc3480c3628f3"),
    Package("fonts-osifont", "0.1.20220224-1", "LGPL-3+FE", "6612a8516ac9b013f30988bc5f03c831e58cc04b46424de6e2359489172a35f5"),
    Package("fonts-gfs-neohellenic", "1.1-7", "OFL-1.1", "41169eb825b0ea8264d997c6c14f2cbb17278b25984d19bbf753e71f558c14a3"),
    Package("fonts-paratype", "20181108-3", "ParaType", "1826b728a79fbb8ed1b6c1ddc240ad6cce39b84c98bb568d8b10f7b7d4f99745"),
    Package("fonts-yanone-kaffeesatz", "2.0+git20211102+ds-1", "OFL-1.1", "f877e8ad4fd0aa8c20ac104c9eef69b54dcdc93e2e0d09a01fe5acfc89371980"),
    Package("fonts-sil-gentium-basic", "1.102-1.1", "OFL-1.1", "fde97d080b4ed65e3575a40cd3cfead323cea7fa1069d812be2d43a1c20866ae"),
    Package("fonts-vollkorn", "4.105-2", "OFL-1.1", "0c7039de3ede6c96727829635c5b10a536114029cbddf98e14716578d936307f"),
    Package("fonts-cabin", "1.5-3", "OFL-1.1", "3a7a7d6057956273b1afa22534383896e2901bcb98439033d8e7852223365238"),
    Package("fonts-anonymous-pro", "1.003-4", "OFL-1.1", "4333e24bc646dcfbb6fda3d9c349d753980b3222c9849cfa50ad6d89731c29e3"),
    Package("fonts-averia-sans-gwf", "1.00-2.1", "OFL-1.1", "432627305095cf97a6aafaa76a8b6562471586246f339be9d67abc4a9970db35"),
    Package("fonts-monoid", "0.61-4", "MIT", "31013df8b81862d5faebff799e68117cc4be299422a26a2326e43d715a6b845a"),
    Package("fonts-liberation2", "2.1.5-1", "OFL-1.1", "35ffaa54f117e633e89a5da89af235a073b34dbe582726fbf6989568f7fd9bda"),
    Package("fonts-freefont-ttf", "20120503-10", "GPL-3+FE", "4ca1c21ebc479198a3a5879d236c8317d6f7b2f1c403f7890e24c02eead05615"),
    Package("fonts-open-sans", "1.11-2", "Apache-2.0", "ed8c4258af6c23e5105fa18940544f060f3c9664fbe881f25130fe0c65bc1485"),
    Package("fonts-cantarell", "0.303.1-1", "OFL-1.1", "8fdf5687d9e2ce70456664519025a6b48fbaaadbc5b1cfbf8b09f72c2dc5f09b"),
    Package("fonts-go", "0~20170330-1", "BSD-3-Clause", "6d1f3b1ee1e3d5a25be14137a5c47a732d4c02f7282ea6babf697a002479aa88"),
    Package("fonts-mononoki", "1.5+dfsg-1", "OFL-1.1", "76643da51382d4bd47044960772166c6d20c8c0a2fcc05711464356be4c7d63f"),
    Package("fonts-monofur", "1.0-3", "OFL-1.1", "80ea00fe21fa8a87e23e1937fe7d5b7cb5109ce40e4700abc64aa6a340d7e223"),
    Package("fonts-bebas-neue", "3.0-2", "OFL-1.1", "fdc713c8323e967f17e0f86fdda358af11b905bb4732551afbff75decdfd2bb4"),
    Package("fonts-quicksand", "0.2016-2.1", "OFL-1.1", "1175e5c64f116887b37ec3c8faea1f411bdef356580bc22298c3c9da75fac120"),
    Package("fonts-stix", "1.1.1-4.1", "OFL-1.1", "d84b45ed9f8d53686e68e36d4442710e8cd13645fdb7f8bd6418354fc336182b"),
    Package("fonts-linuxlibertine", "5.3.0-6", "OFL-1.1", "5c77471e910189b3e4e2eda2b1c5f549ddcaf4de8f9640b97773643970d29087"),
    Package("fonts-dancingscript", "1.2-2", "OFL-1.1", "987b8182611e1f3d9e7b19a82787614470dd8c4ed894a4dedbebc2308703b216"),
    Package("fonts-femkeklaver", "1.0-4", "CC-BY-SA-3.0", "93b34dc4752ac43634fffb93c985366a34dea16886287ae405d5b3e87cd9a7b4"),
    Package("fonts-rufscript", "010-6", "GPL-3+FE", "72a7300913e52795b7915ac5873eda633a80dcb49bb590711cde83b270b0f606"),
    Package("fonts-pc", "1.0-2", "CC-BY-SA-4.0", "424bdfee5ed1961d3c0a104eb1390c3f057dcd1e28c6c1d0906bbb4e0f763650"),
    Package("fonts-spleen", "1.9.1-1", "BSD-2-Clause", "30327f54c2ef1bf9b257cebe601df089b1791d68f05df5fa175bb7d8aa014cc6"),
    Package("fonts-3270", "3.0.1-1", "BSD-3-Clause", "d182dd722580251486253c97c6664e7fd743761a9be3a3479a1ed3177982ead1"),
    Package("fonts-ocr-a", "1.0-10", "public-domain", "d2b11ad1789233dfdc6c6aa98c8b8deabf11be90b62261362b8d8fe7fd9e2eae"),
    Package("fonts-routed-gothic", "1.0.0+git20210723.e22ee83+dfsg-2", "OFL-1.1", "d3755460b594d45b7ef28b4c4043873b6521345b36cf7c46237ddfa941947516"),
    Package("fonts-hosny-amiri", "0.113-1", "OFL-1.1", "9960dfd0dd13077d8922e0fb742d735377e8eb62c8b08816a86abbc9cd8b9612"),
    Package("fonts-ipafont-gothic", "00303-23", "IPA", "5f8e0270654fec6577fffa96015067352440065c0b49bbc8b076745a6b4bf3d3"),
    Package("fonts-gfs-didot", "1.1-7", "OFL-1.1", "2addbd2cdb7d938878e8e7ccdf943004c55d1312a6a8ec5e07914a57246178db"),
    Package("fonts-play", "1.002+20150307.1-0.1", "OFL-1.1", "274f6e95f668f1fff3441056e968a4c947ac975b29000d9c513bd06bb7f7f9d4"),
    Package("fonts-dseg", "0.46-1", "OFL-1.1", "54e409786f6dad7833411c69bcdd433caf16283c470773b05a1bcd1d391c2567"),
    Package("fonts-droid-fallback", "1:6.0.1r16-1.1", "Apache-2.0", "d2096d4edde128fedf6749be2dd204a5810210a6201126d99b8d412344f71056"),
    Package("hershey-fonts-data", "0.1-1.1", "Hershey", "c9ae50c441356f95a79234a025a8d572e4e0aa2ff233e7c5273b6fd41eb00360"),
)

# fmt: on
LATIN, CYRILLIC, GREEK, CJK, ARABIC, DIGITS = "latin", "cyrillic", "greek", "cjk", "arabic", "digits"
EUROPEAN = (LATIN, CYRILLIC, GREEK)


@dataclass(frozen=True)
class Listed:
    """Faces of one package that look alike enough to be drawn as one kind."""

    package: str
    kind: str  # sans, serif, mono, condensed, hand, bitmap, segment, stroke, technical, cjk, arabic
    files: tuple[str, ...]  # below usr/share
    scripts: tuple[str, ...] = (LATIN,)
    native: int | None = None  # pixels per em of a bitmap font; larger letters are enlarged in whole steps


def _below(folder: str, *names: str) -> tuple[str, ...]:
    return tuple(f"fonts/{folder}/{name}" for name in names)


# fmt: off
LISTS: dict[Family, tuple[Listed, ...]] = {
    "training": (
        Listed("fonts-dejavu-core", "sans", _below("truetype/dejavu", "DejaVuSans.ttf", "DejaVuSans-Bold.ttf"), EUROPEAN),
        Listed("fonts-dejavu-core", "mono", _below("truetype/dejavu", "DejaVuSansMono.ttf", "DejaVuSansMono-Bold.ttf"), EUROPEAN),
        Listed("fonts-dejavu-core", "serif", _below("truetype/dejavu", "DejaVuSerif.ttf", "DejaVuSerif-Bold.ttf"), EUROPEAN),
        Listed("fonts-dejavu-extra", "condensed", _below("truetype/dejavu", "DejaVuSansCondensed.ttf", "DejaVuSans-ExtraLight.ttf", "DejaVuSansCondensed-Oblique.ttf"), EUROPEAN),
        Listed("fonts-roboto-unhinted", "sans", _below("truetype/roboto/unhinted/RobotoTTF", "Roboto-Regular.ttf", "Roboto-Bold.ttf", "Roboto-Thin.ttf", "Roboto-Italic.ttf"), EUROPEAN),
        Listed("fonts-roboto-unhinted", "condensed", _below("truetype/roboto/unhinted", "RobotoCondensed-Regular.ttf", "RobotoCondensed-Light.ttf"), EUROPEAN),
        Listed("fonts-lato", "sans", _below("truetype/lato", "Lato-Regular.ttf", "Lato-Light.ttf", "Lato-Black.ttf")),
        Listed("fonts-cabin", "sans", _below("opentype/cabin", "Cabin-Regular.otf", "Cabin-Bold.otf")),
        Listed("fonts-averia-sans-gwf", "sans", _below("truetype/averia-gwf", "AveriaSansGWF-Regular.ttf", "AveriaSansGWF-Bold.ttf")),
        Listed("fonts-inconsolata", "mono", _below("truetype/inconsolata", "Inconsolata.otf")),
        Listed("fonts-jetbrains-mono", "mono", _below("truetype/jetbrains-mono", "JetBrainsMono-Regular.ttf", "JetBrainsMono-Bold.ttf", "JetBrainsMono-Thin.ttf")),
        Listed("fonts-anonymous-pro", "mono", _below("truetype/anonymous-pro", "Anonymous Pro.ttf", "Anonymous Pro B.ttf"), EUROPEAN),
        Listed("fonts-monoid", "mono", _below("truetype/monoid", "Monoid-Regular.ttf")),
        Listed("fonts-sil-gentium-basic", "serif", _below("truetype/gentium-basic", "GenBasR.ttf", "GenBasB.ttf", "GenBasI.ttf")),
        Listed("fonts-vollkorn", "serif", _below("truetype/vollkorn", "Vollkorn-Regular.ttf", "Vollkorn-Bold.ttf")),
        Listed("fonts-paratype", "sans", _below("truetype/paratype", "PTS55F.ttf", "PTN57F.ttf", "PTM55F.ttf"), (LATIN, CYRILLIC)),
        Listed("fonts-paratype", "serif", _below("truetype/paratype", "PTF55F.ttf", "PTF76F.ttf"), (LATIN, CYRILLIC)),
        Listed("fonts-gfs-neohellenic", "sans", _below("opentype/neohellenic", "GFSNeohellenic.otf", "GFSNeohellenicBold.otf"), (LATIN, GREEK)),
        Listed("fonts-yanone-kaffeesatz", "condensed", _below("opentype/yanone-kaffeesatz", "YanoneKaffeesatz-Regular.otf", "YanoneKaffeesatz-Light.otf")),
        Listed("fonts-humor-sans", "hand", _below("truetype/humor-sans", "Humor-Sans.ttf")),
        Listed("fonts-breip", "hand", _below("truetype/breip", "Breip.ttf")),
        Listed("fonts-dkg-handwriting", "hand", _below("truetype/fifthhorseman", "dkg.ttf", "dkgBd.ttf")),
        Listed("fonts-kristi", "hand", _below("truetype/kristi", "Kristi.ttf")),
        Listed("fonts-ecolier-court", "hand", _below("truetype/ecolier-court", "Ecolier-court.ttf")),
        Listed("fonts-comic-neue", "hand", _below("opentype/comic-neue", "ComicNeue-Regular.otf", "ComicNeue-Bold.otf")),
        Listed("fonts-wqy-microhei", "cjk", _below("truetype/wqy", "wqy-microhei.ttc"), (CJK, LATIN)),
        Listed("fonts-vlgothic", "cjk", _below("truetype/vlgothic", "VL-Gothic-Regular.ttf"), (CJK, LATIN)),
        Listed("fonts-kacst", "arabic", _below("truetype/kacst", "KacstBook.ttf", "KacstOffice.ttf", "KacstNaskh.ttf"), (ARABIC,)),
        Listed("fonts-terminus-otb", "bitmap", _below("opentype/terminus", "terminus-normal.otb", "terminus-bold.otb"), (LATIN,), 12),
        Listed("fonts-unifont", "bitmap", _below("opentype/unifont", "unifont.otf"), (LATIN, CYRILLIC, GREEK), 16),
        Listed("fonts-ocr-b", "technical", _below("opentype/ocr-b", "OCRB.otf")),
        Listed("fonts-osifont", "technical", _below("truetype/osifont", "osifont.ttf")),
        Listed("hershey-fonts-data", "stroke", ("hershey-fonts/futural.jhf", "hershey-fonts/timesr.jhf", "hershey-fonts/scripts.jhf")),
        Listed("hershey-fonts-data", "stroke", ("hershey-fonts/rowmand.jhf",)),
        Listed("", "segment", (strokes.SEVEN_SEGMENTS,), (DIGITS,)),
    ),
    "evaluation": (
        Listed("fonts-liberation2", "sans", _below("truetype/liberation2", "LiberationSans-Regular.ttf", "LiberationSans-Bold.ttf"), EUROPEAN),
        Listed("fonts-liberation2", "serif", _below("truetype/liberation2", "LiberationSerif-Regular.ttf"), EUROPEAN),
        Listed("fonts-liberation2", "mono", _below("truetype/liberation2", "LiberationMono-Regular.ttf", "LiberationMono-Bold.ttf"), EUROPEAN),
        Listed("fonts-freefont-ttf", "sans", _below("truetype/freefont", "FreeSans.ttf", "FreeSansBold.ttf"), EUROPEAN),
        Listed("fonts-freefont-ttf", "mono", _below("truetype/freefont", "FreeMono.ttf"), EUROPEAN),
        Listed("fonts-open-sans", "sans", _below("truetype/open-sans", "OpenSans-Regular.ttf", "OpenSans-Light.ttf"), EUROPEAN),
        Listed("fonts-open-sans", "condensed", _below("truetype/open-sans", "OpenSans-CondLight.ttf", "OpenSans-CondBold.ttf"), EUROPEAN),
        Listed("fonts-cantarell", "sans", _below("opentype/cantarell", "Cantarell-Regular.otf", "Cantarell-Light.otf")),
        Listed("fonts-go", "sans", _below("fonts-go", "Go-Regular.ttf", "Go-Mono.ttf"), EUROPEAN),
        Listed("fonts-mononoki", "mono", _below("truetype/mononoki", "mononoki-Regular.ttf")),
        Listed("fonts-monofur", "mono", _below("truetype/monofur", "monof55.ttf")),
        Listed("fonts-bebas-neue", "condensed", _below("opentype/bebas-neue", "BebasNeue-Regular.otf", "BebasNeue-Book.otf")),
        Listed("fonts-quicksand", "sans", _below("truetype/quicksand", "Quicksand-Regular.ttf")),
        Listed("fonts-play", "sans", _below("truetype/play", "Play-Regular.ttf"), EUROPEAN),
        Listed("fonts-stix", "serif", _below("opentype/stix-word", "STIX-Regular.otf"), EUROPEAN),
        Listed("fonts-linuxlibertine", "serif", _below("opentype/linux-libertine", "LinLibertine_R.otf", "LinLibertine_RB.otf"), EUROPEAN),
        Listed("fonts-gfs-didot", "serif", _below("opentype/didot", "GFSDidot.otf"), (LATIN, GREEK)),
        Listed("fonts-dancingscript", "hand", _below("opentype/dancingscript", "DancingScript-Regular.otf")),
        Listed("fonts-femkeklaver", "hand", _below("truetype/femkeklaver", "femkeklaver.ttf")),
        Listed("fonts-rufscript", "hand", _below("truetype/rufscript", "Rufscript010.ttf")),
        Listed("fonts-droid-fallback", "cjk", ("fonts/truetype/droid/DroidSansFallbackFull.ttf",), (CJK,)),
        Listed("fonts-ipafont-gothic", "cjk", _below("opentype/ipafont-gothic", "ipag.ttf"), (CJK, LATIN)),
        Listed("fonts-hosny-amiri", "arabic", _below("opentype/fonts-hosny-amiri", "Amiri-Regular.ttf"), (ARABIC,)),
        Listed("fonts-pc", "bitmap", _below("pc", "Px_IBM_VGA8.ttf", "Px_IBM_CGA.ttf"), (LATIN,), 16),
        Listed("fonts-spleen", "bitmap", _below("opentype/spleen", "spleen-8x16.otf"), (LATIN,), 16),
        Listed("fonts-3270", "bitmap", _below("truetype/3270", "3270-Regular.ttf")),
        Listed("fonts-ocr-a", "technical", _below("truetype/ocr-a", "OCRA.ttf")),
        Listed("fonts-routed-gothic", "technical", _below("truetype/routed-gothic", "routed-gothic.ttf", "routed-gothic-narrow.ttf")),
        Listed("fonts-dseg", "segment", _below("truetype/dseg", "DSEG7Classic-Regular.ttf", "DSEG14Classic-Regular.ttf"), (DIGITS,)),
        Listed("hershey-fonts-data", "stroke", ("hershey-fonts/rowmans.jhf", "hershey-fonts/scriptc.jhf", "hershey-fonts/timesrb.jhf")),
    ),
}
# fmt: on


@dataclass(frozen=True)
class Drawn:
    """A text in ink, 0 to 1, cut to what is inked, and where its characters stand."""

    ink: Ink
    spans: tuple[tuple[int, int], ...]  # columns [start, end) per character that has ink, in text order
    characters: tuple[int, ...]  # index in the text of each span


class Face:
    """One face, ready to write."""

    def __init__(self, file: Path | str, listed: Listed) -> None:
        self.file, self.listed = file, listed
        self.kind, self.scripts = listed.kind, listed.scripts

    @property
    def name(self) -> str:
        """The file's name."""
        return Path(self.file).name

    def draw(self, text: str, capital: int, smooth: bool = True, weight: float = 0.0) -> Drawn | None:
        """Writes one word or line with capitals of about `capital` pixels; none if nothing is inked.
        `weight` is the stroke's thickness in parts of the capital, for faces made of strokes."""
        if str(self.file).endswith(strokes.SEVEN_SEGMENTS) or str(self.file).endswith(".jhf"):
            ink, starts = strokes.draw(str(self.file), text, capital, smooth, weight)
        else:
            ink, starts = self._drawn(text, capital, smooth)
        return cut(ink, starts)

    def _drawn(self, text: str, capital: int, smooth: bool) -> tuple[Ink, list[float]]:
        probe = "國" if self.scripts[0] == CJK else "0" if self.scripts[0] == DIGITS else "H"
        probe = "ا" if self.scripts[0] == ARABIC else probe
        native, factor = self.listed.native, 1
        if native is None:
            font = _font(self.file, _em_for(self.file, probe, capital))
        else:
            font, smooth = _font(self.file, native), False
            factor = max(1, round(capital / max(1, _ink_height(self.file, probe, native))))
        left, top, right, bottom = font.getbbox(text)
        if right <= left or bottom <= top:
            return np.zeros((1, 1), dtype=np.float32), [0.0] * (len(text) + 1)
        size = (int(right - left) + 4, int(bottom - top) + 4)
        page = Image.new("L" if smooth else "1", size)
        ImageDraw.Draw(page).text((2 - left, 2 - top), text, fill=255 if smooth else 1, font=font)
        ink = np.asarray(page.convert("L"), dtype=np.float32) / np.float32(255)
        # Arabic runs from right to left and joins its letters: equal shares stand for characters.
        if self.scripts[0] == ARABIC:
            return ink, [2 + (size[0] - 4) * place / len(text) for place in range(len(text) + 1)]
        ink = ink.repeat(factor, axis=0).repeat(factor, axis=1)
        return ink, [factor * (2 - left + font.getlength(text[:place])) for place in range(len(text) + 1)]


def cut(ink: Ink, starts: Sequence[float]) -> Drawn | None:
    """Cuts the page to its ink; a character's columns reach from its start to the next one's."""
    # Hairlines never fill a pixel: the strongest one counts as full, and `synthesis` sets the grey.
    ink = ink / max(float(ink.max()), 1e-6)
    inked = ink > 0.3
    rows, columns = np.flatnonzero(inked.any(axis=1)), np.flatnonzero(inked.any(axis=0))
    if not len(rows):
        return None
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    spans, characters = [], []
    for place, (start, end) in enumerate(pairwise(starts)):
        first, last = max(round(start), left), min(round(end), right)
        if last > first and inked[:, first:last].any():
            spans.append((int(first - left), int(last - left)))
            characters.append(place)
    if not spans:  # the ink lies wholly outside its own advance, as an accent alone does
        spans, characters = [(0, int(right - left))], [0]
    return Drawn(ink[top:bottom, left:right], tuple(spans), tuple(characters))


@lru_cache(maxsize=4096)
def _font(file: Path | str, em: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(file), em)


@lru_cache(maxsize=65536)
def _em_for(file: Path | str, probe: str, capital: int) -> int:
    """Pixels per em at which the probe's ink is `capital` high."""
    height = _ink_height(file, probe, 200)
    return max(3, round(200 * capital / max(1, height)))


@lru_cache(maxsize=4096)
def _ink_height(file: Path | str, probe: str, em: int) -> int:
    _, top, _, bottom = _font(file, em).getbbox(probe)
    return int(bottom - top)


def cache() -> Path:
    """Where the packages lie, packed and unpacked."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "cloister-fonts"


def fetch(folder: Path, log: Callable[[str], None]) -> None:
    """Downloads, verifies and unpacks every package that is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        target = folder / package.name
        if target.is_dir():
            continue
        log(f"fetching {package.name} {package.version}")
        subprocess.run(
            ["apt-get", "download", f"{package.name}={package.version}"],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        (archive,) = folder.glob(f"{package.name}_*.deb")
        found = hashlib.sha256(archive.read_bytes()).hexdigest()
        if found != package.sha256:
            archive.unlink()
            raise ValueError(f"{package.name} has the hash {found}, not the pinned one")
        unpacked = folder / f"{package.name}.part"
        subprocess.run(["dpkg-deb", "-x", str(archive), str(unpacked)], check=True)
        unpacked.rename(target)
        archive.unlink()


def faces(family: Family, folder: Path) -> list[Face]:
    """Every face of a family; fails if one is missing, so that no run quietly has fewer fonts."""
    found = []
    for listed in LISTS[family]:
        for name in listed.files:
            if not listed.package:
                found.append(Face(name, listed))
                continue
            file = folder / listed.package / "usr/share" / name
            if not file.is_file():
                raise FileNotFoundError(f"{file}: run `cloister-train presence fonts`")
            found.append(Face(file, listed))
    return found
