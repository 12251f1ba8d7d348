"""How a script that makes vectors writes its file, or compares it with what it would write. Nothing here makes vectors."""
import argparse
import json
import sys


def write_or_check(description, file, made):
    """Writes `made` as JSON to `file`; with --check the exit status is 1 if the file holds anything else."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check
    text = json.dumps(made(), indent=1) + "\n"
    if not check:
        file.write_text(text)
    elif file.read_text() != text:
        sys.exit(f"{file.name} is not what this script makes")
