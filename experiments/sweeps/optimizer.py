"""RMSProp against SGD with momentum, for Inception-v2."""

from experiments.sweeps import Claim, Sweep, image_sets, on


def get_sweep(data: str) -> Sweep:
    """Returns the sweep on one of `sweeps.DATA`."""
    rate = 0.045 if data == "imagenet2012" else 0.1
    momentum, rmsprop = {"optimizer.name": "sgd"}, {"optimizer.name": "rmsprop"}
    usual, lower = {"schedule.base_lr": rate}, {"schedule.base_lr": rate / 5}
    lower_rates = {"momentum-lower_rate": momentum | lower, "rmsprop-lower_rate": rmsprop | lower}
    return Sweep(
        title="Inception-v2: RMSProp and momentum",
        text="Both have a momentum of 0.9 and are tried at several rates; RMSProp has the paper's decay of 0.9 "
        "and epsilon of 1.0. The gradients of a small network lie far below an epsilon of 1.0 inside the root, where "
        "RMSProp is nearly SGD. So an epsilon of 1e-6 is tried too; its steps follow the signs of the gradients and "
        "need another learning rate.",
        # In trials on validation images, from 200 of each, four seeds by momentum differed by 4 and 7 points.
        base=on(
            data,
            "inception_v2",
            "configs/inception_v3.py:rmsprop",
            sets=image_sets(("glyphs", "textures"), {"glyphs": 600, "textures": 600}, glyphs=400, textures=400),
        ),
        variants={
            "momentum": momentum | usual,
            "rmsprop": rmsprop | usual,
            "rmsprop-epsilon_1e-6": rmsprop | {"optimizer.rms_epsilon": 1e-6, "schedule.base_lr": 0.003},
            **({} if data == "embedded" else lower_rates),  # there each variant has the best of three rates
        },
        claims=(
            Claim(
                "RMSProp is better than momentum",
                "Rethinking the Inception Architecture, section 8 and Table 3",
                "rmsprop",
                "momentum",
            ),
        ),
        printed={"momentum": "23.4", "rmsprop": "23.1"},
        printed_what="top-1 error in %, ImageNet, single crop, 48,238 images (Table 3)",
    )
