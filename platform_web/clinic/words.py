"""What the clinic page's script may say, in the reader's language."""

from typing import Any

from django.utils.translation import gettext as _


def arm_words() -> dict[str, str]:
    """How a model learned, in plain words, by arm."""
    return {
        "local": _("trained on this institution's cases alone"),
        "global": _("the common model of all sites (FedAvg)"),
        "tuned": _("the common model, trained further on this institution's cases"),
        "personal": _(
            "personalised: learned together with the other sites, with a part that is this institution's own"
        ),
    }


def page_words() -> dict[str, Any]:
    """Everything the page's script may say, in the reader's language."""
    return {
        "arms": arm_words(),
        "asking": _("Asking the model …"),
        "no_ticket": _("The portal gave no ticket. Sign in again and send the request once more."),
        "unreachable": _(
            "Your institution's model cannot be reached from this computer. Check that you are inside the "
            "institution's network, or ask the site operator whether the site is running. Nothing "
            "was sent elsewhere."
        ),
        "refused": _(
            "The site did not accept the ticket. Check the clocks of both machines and send the "
            "request again."
        ),
        "not_ready": _(
            "The site does not serve this model yet. It takes a new model over within a minute; then "
            "try again."
        ),
        "too_large": _("The file is too large: at most 10 MB and 40 megapixels."),
        "other_model": _(
            "The site answered with another model than the one promoted for it. Do not use this "
            "answer; tell the administrator."
        ),
        "failed": _("The site could not answer."),
        "empty": _("Fill in the case first: choose a file, or type the values."),
        "csv_bad": _(
            "The CSV needs a header line with the feature names and at least one line of numbers. "
            "Missing or not a number: "
        ),
        "too_many": _("At most 200 cases at a time."),
        "case": _("Case"),
        "answer": _("Answer"),
        "probability": _("Probability"),
        "image_only": _("Choose an image file (PNG or JPEG)."),
    }
