"""The command; the pictures are tested in tests/report/test_pictures.py."""

from PIL import Image

from experiments import show_batch
from inception_jax import runtime


def test_the_sheet_is_written(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(runtime, "configure", lambda dtype: None)  # of this process
    out = tmp_path / "batch.png"
    arguments = ["--config=configs/digits.py:lenet5", f"--out={out}"]
    assert show_batch.main([*arguments, "--count=3"]) == 2
    assert capsys.readouterr().err == "error: --count=3 must be even\n"
    assert not out.exists()
    assert show_batch.main([*arguments, "--count=4"]) == 0
    assert capsys.readouterr().out == f"4 images of lenet5 on digits in {out}, 552 x 158\n"
    with Image.open(out) as sheet:
        assert sheet.size == (4 * 136 + 8, 158)
