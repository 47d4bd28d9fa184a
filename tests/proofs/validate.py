"""Validates bills of materials with libraries that are not ours; needs cyclonedx-python-lib[json-validation] and spdx-tools.

usage: validate.py CYCLONEDX SPDX
"""

import sys
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

cyclonedx, spdx = sys.argv[1:]
error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(Path(cyclonedx).read_text())
problems = [f"{cyclonedx}: {error}"] if error else []
problems += [f"{spdx}: {message.validation_message}" for message in validate_full_spdx_document(parse_file(spdx))]
print("\n".join(problems))
sys.exit(bool(problems))
