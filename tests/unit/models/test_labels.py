"""Label files in the forms people have."""

import json
from pathlib import Path

import pytest
from resnet_models.errors import DataError
from resnet_models.labels import read_labels

WANTED = ("tench", "goldfish", "great white shark")
FORMS = {
    "lines": b"tench\ngoldfish\ngreat white shark\n",
    "BOM and CRLF": b"\xef\xbb\xbftench\r\ngoldfish\r\ngreat white shark\r\n",
    "blank last lines": b"tench\ngoldfish\ngreat white shark\n\n\n",
    "synsets": b"n01440764 tench\nn01443537 goldfish\nn01484850 great white shark\n",
    "JSON list": json.dumps(WANTED).encode(),
    "id2label": json.dumps({"2": WANTED[2], "0": WANTED[0], "1": WANTED[1]}).encode(),
    "config.json": json.dumps({"id2label": {str(i): name for i, name in enumerate(WANTED)}, "model_type": "resnet"}).encode(),
    "torchvision's class index": json.dumps({str(i): [f"n{i:08}", name] for i, name in enumerate(WANTED)}).encode(),
    "label2id": json.dumps({name: i for i, name in enumerate(WANTED)}).encode(),
    "CSV": b'0,tench\n1,goldfish\n2,"great white shark"\n',
    "CSV with a head": b'index,name\n0,tench\n1,goldfish\n2,"great white shark"\n',
    "CSV, name first": b'name,index\n"great white shark",2\ntench,0\ngoldfish,1\n',
}


@pytest.mark.parametrize("form", FORMS)
def test_the_common_forms_give_the_same_labels(form: str, tmp_path: Path) -> None:
    (tmp_path / "labels").write_bytes(FORMS[form])
    assert read_labels(tmp_path / "labels") == WANTED


def test_commas_within_names_stay(tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("tench, Tinca tinca\ngoldfish, Carassius auratus\n")
    assert read_labels(tmp_path / "labels") == ("tench, Tinca tinca", "goldfish, Carassius auratus")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("tench\ngoldfish".encode("utf-16"), "is UTF-16; expected UTF-8"),
        ("Seepferdchen\nBär".encode("latin-1"), r"is not UTF-8 \(byte 14 is 0xe4\), perhaps Latin-1; expected UTF-8"),
        (b"\n \n", "holds no label"),
        (b'{"0": "tench", "2": "goldfish"}', "gives indices 0 to 2 for 2 names; expected each of 0 to 1"),
        (b"[1, 2]", "is a JSON list of other things than names"),
        (b'{"tench": null}', "maps neither indices to names nor names to indices"),
        (b'{"tench": ', "begins like JSON but is none"),
    ],
)
def test_another_form_is_named_in_one_line(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "labels").write_bytes(data)
    with pytest.raises(DataError, match=message) as error:
        read_labels(tmp_path / "labels")
    assert "\n" not in str(error.value)
