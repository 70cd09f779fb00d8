"""Writes basic.tsv from a JSON extract of PS3.15 Table E.1-1; run by hand when a new edition is out.

    python3 make.py confidentiality_profile_attributes.json > basic.tsv

One row a line: tag mask, action of the Basic profile, the ten option columns in the order of the
standard (RtnSafePriv RtnUIDs RtnDevId RtnInstId RtnPatChars RtnLongFullDates RtnLongModifDates
CleanDesc CleanStructCont CleanGraph) as one character each (K, C or -), and the name.
"""
import json
import sys

OPTIONS = [
    "rtnSafePrivOpt", "rtnUIDsOpt", "rtnDevIdOpt", "rtnInstIdOpt", "rtnPatCharsOpt",
    "rtnLongFullDatesOpt", "rtnLongModifDatesOpt", "cleanDescOpt", "cleanStructContOpt",
    "cleanGraphOpt",
]


def mask(row):
    key = row["id"].lower()
    return "private" if key.startswith("ggggeeee") else f"{key[:4]},{key[4:8]}"


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        rows = json.load(file)
    for row in sorted(rows, key=mask):
        options = "".join(row.get(option, "-") for option in OPTIONS)
        name = " ".join(row["name"].split()).split(" (see Note")[0]
        print(mask(row), row["basicProfile"], options, name, sep="\t")


if __name__ == "__main__":
    main()
