"""The decoded form is plain data."""

from bench.sim.form import Form, UploadedFile


def test_a_form_holds_fields_and_files() -> None:
    form = Form({"purpose": "batch"}, [UploadedFile("file", "a.txt", "text/plain", 1, b"a")])
    assert form.files[0].filename == "a.txt"
    assert form.fields["purpose"] == "batch"
