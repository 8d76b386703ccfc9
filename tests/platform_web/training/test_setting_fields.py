"""Each kind of setting of the catalog has a form field that takes what the catalog takes."""

from django import forms

from fl_jobs import catalog
from platform_web.training.setting_fields import setting_field

DIGEST = "ab" * 32


def test_every_setting_of_every_model_has_a_field_with_its_default():
    for model in catalog.MODELS.values():
        for setting in model.arguments:
            field = setting_field(setting, model.kinds[0])
            assert not field.required
            assert (field.initial or "") == (setting.default_for(model.kinds[0]) or "")


def test_trained_weights_are_pasted_as_text():
    weights = next(s for s in catalog.MODELS["image_resnet18"].arguments if s.name == "weights")
    field = setting_field(weights, "image")
    assert type(field) is forms.CharField
    pasted = field.clean(f" {DIGEST}  resnet.safetensors")
    checked = catalog.validate_model("image_resnet18", {"weights": pasted}, "image")
    assert checked["weights"] == f"{DIGEST} resnet.safetensors"
    assert field.clean("") == ""
