"""Writes docs/scale.md: what a run on many chips costs, from the costs of a step and the figures of the machines."""

import dataclasses
import math
from collections.abc import Sequence

from inception_jax import markdown
from inception_jax.models.network import RECOMPUTE
from inception_jax.training.cost import CheckpointTime, CompiledStep, KeptBytes, StepCost

CHIP_COUNTS = (8, 64, 512)
IMAGES_PER_CHIP = 128  # in the table of input

# Images per second of training on one H200 in bfloat16, docs/performance.md.
MEASURED = {"inception_v3": 5547, "googlenet": 12942, "resnet50": 6946, "vgg_d": 4702}
# The measured network whose share of the matrix products' rate is assumed for a network that was not measured.
ASSUMED = {
    "alexnet": "googlenet",
    "zfnet": "googlenet",
    "nin_imagenet": "googlenet",
    "bn_inception": "inception_v3",
    "inception_v2": "inception_v3",
    "inception_v4": "inception_v3",
    "inception_resnet_v1": "inception_v3",
    "inception_resnet_v2": "inception_v3",
}

# Images per second and core, from 500 x 375 JPEG files to random crops of 224 x 224: 1,276 on two cores.
DECODE_RATE = 1276 / 2
# Size of ILSVRC2012_img_train.tar over its number of images.
FILE_BYTES = 147_897_477_120 / 1_281_167


@dataclasses.dataclass(frozen=True)
class Chip:
    """An accelerator and the hosts it comes with.

    Attributes:
      name: name of the chip.
      operations: floating-point operations per second in bfloat16 of which `MEASURED` is a share.
      link: bytes per second that a chip sends to the others of its group, while it receives as many.
      group: largest number of chips that are joined by these links.
      network: bytes per second and chip between groups, in one direction.
      chips_per_host: number of chips of a host.
      cores_per_host: number of cores or virtual CPUs of a host.
      sources: where each figure is from.
    """

    name: str
    operations: float
    link: float
    group: int
    network: float
    chips_per_host: int
    cores_per_host: int
    sources: str


H200 = Chip(
    "H200",
    operations=723e12,
    link=450e9,
    group=8,
    network=50e9,
    chips_per_host=8,
    cores_per_host=112,
    sources="rate of matrix products: [measured](performance.md#on-a-gpu). NVLink 900 GB/s in both directions, network "
    "adapters of 400 Gb/s (one for each GPU is counted), two processors of 56 cores: NVIDIA's description of "
    "[its MLPerf system](https://raw.githubusercontent.com/mlcommons/inference_results_v4.1/main/closed/NVIDIA/systems/"
    "H200-SXM-141GBx8_TRT_MaxQ.json)",
)
V5E = Chip(
    "TPU v5e",
    operations=197e12,
    link=200e9,
    group=256,
    network=6.4e12 / 8 / 256,
    chips_per_host=8,
    cores_per_host=224,
    sources="peak in bfloat16, 400 GB/s in both directions, 256 chips and 6.4 Tb/s of network in a pod, 8 chips and "
    "224 virtual CPUs in a machine: [Google Cloud](https://docs.cloud.google.com/tpu/docs/v5e)",
)
V5P = Chip(
    "TPU v5p",
    operations=459e12,
    link=600e9,
    group=8960,
    network=50e9 / 8,
    chips_per_host=4,
    cores_per_host=208,
    sources="peak in bfloat16, 1,200 GB/s in both directions, 8,960 chips in a pod, 50 Gb/s of network for each chip, "
    "4 chips and 208 virtual CPUs in a machine: [Google Cloud](https://docs.cloud.google.com/tpu/docs/v5p)",
)
CHIPS = (H200, V5E, V5P)


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Times of one training step on many chips, in seconds.

    Attributes:
      network: name of the network.
      chip: name of the chip.
      chips: number of chips.
      batch_size: images in a step.
      compute: time of the operations.
      all_reduce: least time of the all-reduce, if it does not overlap with the operations.
      decoding: time in which the hosts of these chips decode the images of a step.
    """

    network: str
    chip: str
    chips: int
    batch_size: int
    compute: float
    all_reduce: float
    decoding: float

    @property
    def limit(self) -> str:
        """What takes longest: 'compute', 'all-reduce' or 'decoding'."""
        times = {"compute": self.compute, "all-reduce": self.all_reduce, "decoding": self.decoding}
        return max(times, key=times.__getitem__)

    @property
    def images_per_second(self) -> float:
        """Images per second, if nothing but the all-reduce adds to the time of the operations."""
        return self.batch_size / max(self.compute + self.all_reduce, self.decoding)


def shares(costs: Sequence[StepCost]) -> dict[str, float]:
    """Returns the share of the H200's rate of matrix products that each network reaches, measured or assumed."""
    operations = {cost.network: cost.operations for cost in costs}
    measured = {
        name: rate * operations[name] / H200.operations for name, rate in MEASURED.items() if name in operations
    }
    return {name: measured[ASSUMED.get(name, name)] for name in operations if ASSUMED.get(name, name) in measured}


def all_reduce_seconds(size: int, chip: Chip, chips: int) -> float:
    """Returns the least time to average `size` bytes over all chips, by the bandwidth of the links alone.

    In a ring of n chips each sends 2 (n - 1) / n of the bytes. With several groups, each group first leaves the n-th
    part of the sums on each of its chips; these parts are exchanged between the groups by the network.
    """
    inside = math.gcd(chips, chip.group) if chips > chip.group else chips
    groups = chips // inside
    ring = 2 * (inside - 1) / inside * size / chip.link
    return ring + 2 * (groups - 1) / groups * size / inside / chip.network


def estimate(cost: StepCost, share: float, chip: Chip, chips: int, batch_size: int) -> Estimate:
    """Estimates the times of a step on `chips` chips; a `batch_size` that does not divide is enlarged."""
    batch_size = -(-batch_size // chips) * chips
    hosts = -(-chips // chip.chips_per_host)
    return Estimate(
        network=cost.network,
        chip=chip.name,
        chips=chips,
        batch_size=batch_size,
        compute=batch_size / chips * cost.operations / (share * chip.operations),
        all_reduce=all_reduce_seconds(cost.reduced_bytes, chip, chips),
        decoding=batch_size / (hosts * chip.cores_per_host * DECODE_RATE),
    )


def estimates(costs: Sequence[StepCost], images_per_chip: int = 0) -> list[Estimate]:
    """Estimates every network on every chip and `CHIP_COUNTS`.

    Args:
      costs: costs of the networks' steps.
      images_per_chip: images of a step on each chip; 0: the recipe's batch is divided.
    """
    share = shares(costs)
    return [
        estimate(cost, share[cost.network], chip, chips, images_per_chip * chips or cost.batch_size)
        for chip in CHIPS
        for cost in costs
        if cost.network in share
        for chips in CHIP_COUNTS
    ]


_INTRODUCTION = """\
# What a run on many chips costs

Written by `python -m experiments.scale --check > docs/scale.md`; `--json=FILE` writes the numbers. For the recipe of
every ImageNet network: data parallelism, gradients and state in float32, products in bfloat16.

Of these numbers:

- *counted*: multiply-adds, parameters and bytes, from the networks, their training states and traced gradients;
- *measured*: the speed of four networks and of matrix products on one H200 ([Speed](performance.md#on-a-gpu)), the
  decoding ([Benchmarks](benchmarks.md#loader)), and all under "Simulated devices" and "Checkpoints";
- *vendors'*: the bandwidths, the hosts, and the peak operations of the TPUs;
- *assumed*: the speed of the other networks, and of all networks on TPUs;
- *derived*: everything else.

No run on more than one accelerator was made, so the times are estimates to plan with, not results."""

_STEP = """\
## What a step costs

- Operations: products and sums. The gradients of a convolution or dense layer with respect to its input and to its
  kernel each cost what its output costs. So training takes three times the multiply-adds of the forward pass, auxiliary
  heads included.
- Moved: estimated traffic with the chip's memory, five times the outputs of all operations in bfloat16: written, read,
  read for the gradients; the gradient written and read.
- Averaged: what the devices exchange in each step: gradients, batch statistics and metrics in float32.
- Checkpoint: parameters, batch statistics, optimizer and EMA before compression."""

_MACHINES = """\
## Machines

The link is what a chip sends in one direction: half of the vendor's sum of both. For a TPU v5e it equals the vendor's
"all-reduce bandwidth per pod", 51.2 TB/s, over 256 chips."""

_SHARES = """\
The share is the part of the rate above that a network's operations reach. Measured on one H200 with 64 to 256 images;
with few images it is lower, so the times below are too short there. On TPUs the same share of the peak is assumed."""

_LIMITS = """\
## What limits a step

The recipe's batch divided over 8, 64 and 512 chips; a batch that does not divide is enlarged to the next that does.
Where a recipe sets `config.train.microbatch`, it must divide the images of a chip, so set it to what is left.

- Compute: operations over the share of the chip's rate.
- All-reduce: 2 (n - 1) / n of the averaged bytes over the link of a ring of n chips. With several groups (H200: 8
  chips; TPU v5e: 256), also the n-th part of the bytes, in the same way, over the network between the groups. Latency
  is left out, so it is the least time.
- Decoding: images over {rate:,.0f} images a second for each core of the hosts, which come with the chips. Measured from
  500 x 375 JPEGs to crops of 224 x 224; for 299 x 299 the same rate is assumed, and for a virtual CPU that of a core.

The largest of the three limits; the first table counts the networks by their limit. Images per second: as if the
all-reduce did not overlap with the operations. Where it does, at most the smaller of the two is hidden."""

_INPUT = """\
## Input

What one host of the smallest run must do while its chips compute, and how many hosts decode for all, with {images}
images on each chip: a larger run has a larger batch. Files are ImageNet's, {file:.0f} KB on average (147,897,477,120
bytes of `ILSVRC2012_img_train.tar` over 1,281,167 images). Images travel to the chip as uint8. Hosts: those that come
with the chips / those that decoding needs. Where decoding needs more, the chips wait. The number of cores is that of
decoding threads: `config.data.threads`, by default one for each core of the host. Smaller copies of the images
(`python -m experiments.prepare`) help little: 1,383 in place of 1,276 images a second
([Benchmarks](benchmarks.md#loader))."""

_KEPT = """\
## What the backward pass keeps

Counted for one image and one device, in bfloat16, with the forms of a GPU: the arrays that the gradients need from the
forward pass, each once. A batch takes as many times that, or its microbatch. Parameters, gradients and the training
state come on top. `config.train.recompute` chooses:

{choices}

XLA may keep less than JAX hands over, because it computes cheap values again by itself. Where a layer is one
convolution without batch normalisation, `activations` keeps its input beside its output, so that it saves nothing
(VGG). Gradients are the same but for rounding. What it costs in time was not measured: `blocks` adds most of a forward
pass, a third of the operations above; `activations` adds no products."""

_SIMULATED = """\
## Simulated devices

The training step of the recipe, compiled by XLA for 1 to 64 simulated CPU devices (`fast_compile`), with {images}
images of the recipe's size on each. Collectives, arrays and bytes are read from the compiled program; the bytes equal
those counted above. Memory is XLA's plan for one device: state, batch and temporary arrays."""

_ONE = """\
`tests/training/test_cost.py` holds these facts for a small network: one all-reduce, no other exchange, with `shard_map`
and `pmap`, microbatches and clipping, and the same memory on 2 and 4 devices. To know:

- XLA joins at most 256 arrays into one all-reduce. The step averages all scalars and vectors as one array, so the
  recipes have at most {most} arrays. Averaged each by itself, Inception-v3's 488 arrays take two all-reduces.
- For a GPU, XLA joins at most 30 MiB (`xla_gpu_all_reduce_combine_threshold_bytes`,
  [collective_utils.h](https://github.com/openxla/xla/blob/main/xla/service/collective_utils.h)). So larger networks
  have several, which can overlap with the computation of the remaining gradients. This was not run here.
- `config.train.sync_batch_norm` adds two all-reduces for each normalisation: one forward, one for the gradients."""

_CHECKPOINTS = """\
## Checkpoints

Initial states, saved to and restored from the local disk of a machine with two cores, which did other work too. The
restored files were still in the operating system's memory. Saving runs beside training, which waits only for the time
in the column "blocks". Initial states compress better than later ones, because their momentum is zero."""


def scale_page(
    costs: Sequence[StepCost],
    steps: Sequence[CompiledStep] = (),
    checkpoints: Sequence[CheckpointTime] = (),
    kept: Sequence[KeptBytes] = (),
) -> str:
    """Returns docs/scale.md.

    Args:
      costs: costs of the networks' steps.
      steps: steps compiled for simulated devices; without any, the page ends before them.
      checkpoints: measured times of checkpoints.
      kept: what the networks' backward passes keep.
    """
    share = shares(costs)
    sections = [
        _INTRODUCTION,
        _STEP,
        _step_table(costs),
        _MACHINES,
        _machine_table(),
        _SHARES,
        _share_table(share),
        _LIMITS.format(rate=DECODE_RATE),
    ]
    limits, wide = estimates(costs), estimates(costs, IMAGES_PER_CHIP)
    sections += [_summary_table(limits)]
    for chip in CHIPS:
        sections += [f"### {chip.name}", _limit_table([each for each in limits if each.chip == chip.name])]
    sections += [_INPUT.format(images=IMAGES_PER_CHIP, file=FILE_BYTES / 1e3)]
    sizes = {cost.network: cost.image_size for cost in costs}
    for chip in CHIPS:
        sections += [f"### {chip.name}: input", _input_table([e for e in wide if e.chip == chip.name], chip, sizes)]
    if kept:
        sections += [kept_section(kept)]
    if steps:
        images = steps[0].images_per_device
        most = max(cost.reduced_arrays for cost in costs)
        sections += [_SIMULATED.format(images=images), _simulated_table(steps), _ONE.format(most=most)]
    if checkpoints:
        sections += [_CHECKPOINTS, _checkpoint_table(checkpoints)]
    return "\n\n".join(sections) + "\n"


def scale_record(
    costs: Sequence[StepCost],
    steps: Sequence[CompiledStep] = (),
    checkpoints: Sequence[CheckpointTime] = (),
    kept: Sequence[KeptBytes] = (),
) -> dict:
    """Returns the page's numbers as plain data: bytes, seconds, operations."""
    derived = [{"operations": cost.operations, "touched_bytes": cost.touched_bytes} for cost in costs]
    return {
        "networks": [dataclasses.asdict(cost) | more for cost, more in zip(costs, derived, strict=True)],
        "chips": [dataclasses.asdict(chip) for chip in CHIPS],
        "shares": shares(costs),
        "recipe_batch": [_record(each) for each in estimates(costs)],
        "batch_per_chip": [_record(each) for each in estimates(costs, IMAGES_PER_CHIP)],
        "kept": [dataclasses.asdict(each) for each in kept],
        "simulated": [dataclasses.asdict(step) for step in steps],
        "checkpoints": [dataclasses.asdict(each) for each in checkpoints],
    }


def kept_section(kept: Sequence[KeptBytes]) -> str:
    """Returns the section on what the backward pass keeps."""
    choices = "\n".join(f"- `{name}`: {choice.meaning}." for name, choice in RECOMPUTE.items())
    header = ("network", "images", *RECOMPUTE, f"{IMAGES_PER_CHIP} images, nothing")
    rows = [
        (
            each.network,
            f"{each.image_size}",
            *(_megabytes(each.bytes[name]) for name in RECOMPUTE),
            f"{IMAGES_PER_CHIP * each.bytes['nothing'] / 1e9:.1f} GB",
        )
        for each in kept
    ]
    return "\n\n".join([_KEPT.format(choices=choices), markdown.table(header, rows, right=header[1:])])


def _record(each: Estimate) -> dict:
    return dataclasses.asdict(each) | {"limit": each.limit, "images_per_second": each.images_per_second}


def _step_table(costs: Sequence[StepCost]) -> str:
    header = (
        "network",
        "images",
        "batch",
        "multiply-adds, forward, one image",
        "operations, training, one image",
        "moved, one image",
        "parameters",
        "averaged",
        "optimizer",
        "checkpoint",
    )
    rows = [
        (
            cost.network,
            f"{cost.image_size}",
            f"{cost.batch_size:,}",
            f"{cost.multiply_adds / 1e9:.2f} G",
            f"{cost.operations / 1e9:.1f} G",
            _megabytes(cost.touched_bytes),
            f"{cost.parameters / 1e6:.1f} M",
            _megabytes(cost.reduced_bytes),
            cost.optimizer,
            _megabytes(cost.checkpoint_bytes),
        )
        for cost in costs
    ]
    return markdown.table(header, rows, right=set(header) - {"network", "optimizer"})


def _machine_table() -> str:
    header = ("chip", "rate", "link", "group", "network", "chips of a host", "cores of a host", "sources")
    rows = [
        (
            chip.name,
            f"{chip.operations / 1e12:.0f} TFLOP/s",
            f"{chip.link / 1e9:.0f} GB/s",
            f"{chip.group:,}",
            f"{chip.network / 1e9:.1f} GB/s",
            f"{chip.chips_per_host}",
            f"{chip.cores_per_host}",
            chip.sources,
        )
        for chip in CHIPS
    ]
    return markdown.table(header, rows, right=header[1:-1])


def _share_table(share: dict[str, float]) -> str:
    rows = [
        (name, f"{value:.0%}", "measured" if name in MEASURED else f"assumed: that of {ASSUMED[name]}")
        for name, value in share.items()
    ]
    return markdown.table(("network", "share", "how it is known"), rows, right=("share",))


def _summary_table(rows: Sequence[Estimate]) -> str:
    """Counts the networks by what limits them."""
    header = ("chip", *(f"{chips} chips" for chips in CHIP_COUNTS))
    cells = []
    for chip in CHIPS:
        by_count = []
        for chips in CHIP_COUNTS:
            limits = [each.limit for each in rows if (each.chip, each.chips) == (chip.name, chips)]
            by_count.append(", ".join(f"{limits.count(limit)} {limit}" for limit in sorted(set(limits))))
        cells.append((chip.name, *by_count))
    return markdown.table(header, cells)


def _limit_table(rows: Sequence[Estimate]) -> str:
    header = (
        "network",
        "chips",
        "batch",
        "images of a chip",
        "compute, ms",
        "all-reduce, ms",
        "decoding, ms",
        "limit",
        "images/s",
    )
    cells = [
        (
            each.network,
            f"{each.chips}",
            f"{each.batch_size:,}",
            f"{each.batch_size // each.chips:,}",
            f"{1e3 * each.compute:.2f}",
            f"{1e3 * each.all_reduce:.2f}",
            f"{1e3 * each.decoding:.2f}",
            each.limit,
            _three_digits(each.images_per_second),
        )
        for each in rows
    ]
    return markdown.table(header, cells, right=set(header) - {"network", "limit"})


def _input_table(rows: Sequence[Estimate], chip: Chip, sizes: dict[str, int]) -> str:
    header = ["network", "images/s of a host", "files, MB/s", "to the chips, MB/s", f"cores of {chip.cores_per_host}"]
    header += [f"hosts, {chips} chips" for chips in CHIP_COUNTS]
    cells = []
    for name in dict.fromkeys(each.network for each in rows):
        own = {each.chips: each for each in rows if each.network == name}
        rates = {chips: each.batch_size / (each.compute + each.all_reduce) for chips, each in own.items()}
        # The smallest run has the shortest all-reduce, so each of its hosts needs the most images.
        of_host = max(rate / chips for chips, rate in rates.items()) * chip.chips_per_host
        hosts = [
            f"{-(-chips // chip.chips_per_host)} / {math.ceil(rates[chips] / DECODE_RATE / chip.cores_per_host)}"
            for chips in CHIP_COUNTS
        ]
        cells.append(
            (
                name,
                _three_digits(of_host),
                _three_digits(of_host * FILE_BYTES / 1e6),
                _three_digits(of_host * 3 * sizes[name] ** 2 / 1e6),
                f"{math.ceil(of_host / DECODE_RATE)}",
                *hosts,
            )
        )
    return markdown.table(header, cells, right=header[1:])


def _simulated_table(steps: Sequence[CompiledStep]) -> str:
    header = ("network", "devices", "collectives", "arrays", "bytes", "memory of a device")
    rows = [
        (
            step.network,
            f"{step.devices}",
            _kinds(step),
            f"{sum(each.arrays for each in step.collectives)}",
            f"{sum(each.bytes for each in step.collectives):,}",
            f"{step.device_bytes:,}",
        )
        for step in steps
    ]
    return markdown.table(header, rows, right=set(header) - {"network", "collectives"})


def _kinds(step: CompiledStep) -> str:
    kinds = [each.kind for each in step.collectives]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)) or "none"


def _checkpoint_table(checkpoints: Sequence[CheckpointTime]) -> str:
    header = ("network", "state", "on disk", "blocks, s", "complete after, s", "restored in, s")
    rows = [
        (
            each.network,
            _megabytes(each.state_bytes),
            _megabytes(each.file_bytes),
            f"{each.blocked_seconds:.2f}",
            f"{each.save_seconds:.2f}",
            f"{each.restore_seconds:.2f}",
        )
        for each in checkpoints
    ]
    return markdown.table(header, rows, right=header[1:])


def _megabytes(count: float) -> str:
    return f"{count / 1e6:,.1f} MB"


def _three_digits(value: float) -> str:
    """Returns a number with three digits, because the estimates have no more."""
    return f"{float(f'{value:.3g}'):,.0f}"
