"""How fast the harness is: each part beside what one would write without it, and beside the machine itself.

    python experiments/benchmark.py --dataset mnist

About four minutes on two CPU cores, which should have nothing else to do. Prints a table, a row per pair,
and logs it as a run of the MLflow experiment `benchmarks`. The two sides of a pair work in turns, a block
each; the ratio is taken turn by turn, so that a slow minute of the machine meets both sides.
"""

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from statistics import median
from typing import Any, Literal

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from harness import classifier, cli, data, evaluation, experiment, methods, sampling, tracking
from harness.data import Images
from harness.errors import InputError
from harness.methods import ImageShape
from harness.seeding import Draws
from harness.tracking import Run
from harness.training import Batch, Batches, train

FOREVER = 1_000_000  # more steps than any block gets to
WARM_UP_S = 0.3
TRACKED_S = 4.5  # a run sends its metrics every two seconds
MATRIX = 2048

Block = Callable[[float], float]
"""Works for some seconds at least and returns its rate."""


@dataclass(frozen=True)
class Plan:
    """What is measured, and for how long."""

    dataset: str = "digits"
    """digits (embedded), mnist, fashion-mnist or kmnist"""
    data_root: str | None = None
    """folder of the data files; by default the environment's HARNESS_DATA_ROOT"""
    tracking_uri: str | None = None
    """MLflow store; by default the environment's MLFLOW_TRACKING_URI, else sqlite under outputs/"""
    precision: Literal["no", "bf16"] = "no"
    """of training on both sides: float32, or autocast to bfloat16; sampling is float32"""
    repeats: int = 7
    """turns per pair"""
    seconds: float = 1.25
    """length of a block at least; those of the tracking pairs are longer"""
    evaluations: int = 10
    """network evaluations per sampled image"""
    num_workers: int = 0
    """worker processes of the DataLoader"""


@dataclass(frozen=True)
class Pair:
    """Two ways to do one thing, their rates in `unit`."""

    key: str
    what: str
    unit: str
    ours: Block
    other: Block
    seconds: float


@dataclass(frozen=True)
class Bench:
    """What the pairs have in common."""

    plan: Plan
    accelerator: Accelerator
    dataset: data.Dataset
    shape: ImageShape

    def batches(self, size: int) -> Batches:
        return Batches((self.dataset.train, size), seed=0, accelerator=self.accelerator)

    def generator(self, method: str, **changes: Any) -> Any:
        """A method's model, ready to train, with its default hyperparameters but for `changes`."""
        generator: Any = methods.find(method)
        model = experiment.build(method, generator.Config(steps=FOREVER, **changes), self.shape, seed=0)
        model.prepare(self.accelerator)
        return model


def main(plan: Plan = Plan()) -> None:
    """Measure every pair, print the table and log it."""
    bench = prepare(plan)
    ddpm = bench.generator("ddpm", guidance=0.0, sampler="dpm-solver++", sampler_steps=plan.evaluations)
    reference = Reference(ddpm, bench)
    batches = bench.batches(ddpm.config.batch_size)
    gflop, convolution = work(ddpm, batches)
    facts = {
        "parameters": num_parameters(ddpm.net),
        "diffusers_parameters": num_parameters(reference.net),
        "gflop_per_step": round(gflop, 2),
        "diffusers_gflop_per_step": round(work(reference, batches)[0], 2),
        "device": bench.accelerator.device.type,
        "num_threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    with tracking.run(
        "benchmarks",
        f"benchmark {plan.dataset}",
        tags={"kind": "benchmark", "dataset": plan.dataset},
        params={**dataclasses.asdict(plan), **facts},
        tracking_uri=plan.tracking_uri,
    ) as run:
        pairs = [
            training_pair(ddpm, reference, batches, plan),
            sampling_pair(ddpm, reference, bench),
            classifier_pair(bench),
            convolution_pair(ddpm, batches, gflop, convolution, bench),
            product_pair(ddpm, batches, gflop, bench),
            tracking_pair("ddpm", bench, run),
            tracking_pair("gan", bench, run),
        ]
        table = ["| ours / other | unit | ours | other | ratio | n |", "|---|---|---|---|---|---|"]
        print("\n".join(table), flush=True)
        for pair in pairs:
            table.append(measure(pair, plan.repeats, run))
            print(table[-1], flush=True)
        notes = "Median [min, max] of n turns; " + ", ".join(f"{name} {value}" for name, value in facts.items())
        print(f"\n{notes}")
        run.text("\n".join([*table, "", notes, ""]), "benchmark.md")


def prepare(plan: Plan) -> Bench:
    """Refuse what cannot be measured; read the data."""
    if plan.repeats < 1 or plan.seconds <= 0 or plan.evaluations < 1:
        raise InputError("--repeats, --seconds and --evaluations must be above 0")
    accelerator = Accelerator(mixed_precision=plan.precision)
    if accelerator.num_processes > 1:
        raise InputError("the benchmark is for one process; start it with python, not with a launcher")
    dataset = data.load(plan.dataset, plan.data_root)
    return Bench(plan, accelerator, dataset, evaluation.image_shape(dataset))


# --- Measuring -------------------------------------------------------------------------------------------


def rate(portions: Iterator[float], seconds: float) -> float:
    """Amount per second: an item of `portions` is the amount of work that was done to yield it."""
    synchronize()
    amount, start = 0.0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        amount += next(portions)
    synchronize()
    return amount / (time.perf_counter() - start)


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measure(pair: Pair, repeats: int, run: Run) -> str:
    """The pair's row of the table. All figures are logged: medians and extremes, and each turn as a step."""
    pair.ours(WARM_UP_S), pair.other(WARM_UP_S)
    turns = [(pair.ours(pair.seconds), pair.other(pair.seconds)) for _ in range(repeats)]
    ours, other = zip(*turns, strict=True)
    figures = {"ours": ours, "other": other, "ratio": [a / b for a, b in turns]}
    for name, values in figures.items():
        key = f"{pair.key}/{name}"
        run.metrics({key: median(values), f"{key}_min": min(values), f"{key}_max": max(values)})
        for turn, value in enumerate(values):
            run.metrics({f"{key}_turn": value}, turn)
    cells = [f"{median(values):.4g} [{min(values):.4g}, {max(values):.4g}]" for values in figures.values()]
    return f"| {' | '.join([pair.what, pair.unit, *cells, str(repeats)])} |"


def trained(model: Any, batches: Batches, amount: float) -> Iterator[float]:
    """Training as portions, one per step, each worth `amount`."""
    for _ in train(model, batches, FOREVER):
        yield amount


# --- DDPM beside diffusers -------------------------------------------------------------------------------


class Reference:
    """The same diffusion as diffusers' tutorials write it: UNet2DModel, DDPMScheduler, AdamW.

    Its U-Net has three levels (28, 14 and 7 pixels for MNIST) and no attention: the fastest that we have
    found of the shapes with as many parameters as ours. The coarsest level's width makes them as many.
    """

    def __init__(self, ddpm: Any, bench: Bench) -> None:
        try:
            from diffusers import DDPMScheduler, UNet2DModel  # type: ignore[attr-defined]
        except ImportError as error:
            raise InputError("the benchmark needs diffusers; install the dev extra: pip install -e '.[dev]'") from error

        def unet(width: int) -> Any:
            return UNet2DModel(
                sample_size=bench.shape.height,
                in_channels=bench.shape.channels,
                out_channels=bench.shape.channels,
                block_out_channels=(16, 32, width),
                down_block_types=("DownBlock2D",) * 3,
                up_block_types=("UpBlock2D",) * 3,
                layers_per_block=1,
                norm_num_groups=4,
                add_attention=False,
                num_class_embeds=bench.shape.num_classes,
            )

        wanted = num_parameters(ddpm.net)
        with torch.device("meta"):
            width = min(range(32, 129, 4), key=lambda width: abs(num_parameters(unet(width)) - wanted))
        self.plan, self.net = bench.plan, unet(width).to(bench.accelerator.device)
        self.scheduler: Any = DDPMScheduler(ddpm.config.num_steps)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=ddpm.config.learning_rate)

    def step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        x_0 = batch.images
        eps = torch.randn_like(x_0)
        t = torch.randint(len(self.scheduler.betas), (len(x_0),), device=x_0.device)
        x_t = self.scheduler.add_noise(x_0, eps, t)
        with torch.autocast(x_0.device.type, torch.bfloat16, enabled=self.plan.precision == "bf16"):
            loss = F.mse_loss(self.net(x_t, t, batch.labels).sample.float(), eps)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"train/loss": loss.detach()}

    @torch.no_grad()
    def sample(self, labels: Tensor, draws: Draws) -> Tensor:
        self.scheduler.set_timesteps(self.plan.evaluations)
        x = draws.normal("x_T", self.net.config.in_channels, *[self.net.config.sample_size] * 2)
        for t in self.scheduler.timesteps:
            x = self.scheduler.step(self.net(x, t, labels).sample, t, x).prev_sample
        return x


def num_parameters(net: nn.Module) -> int:
    return sum(weight.numel() for weight in net.parameters())


def training_pair(ddpm: Any, reference: Reference, batches: Batches, plan: Plan) -> Pair:
    """Both over the same tensor batches: network and update differ. Ours averages its weights besides."""
    ours, other = (partial(rate, trained(model, batches, batches.size)) for model in (ddpm, reference))
    return Pair("ddpm_training", "DDPM training: harness / diffusers", "images/s", ours, other, plan.seconds)


def sampling_pair(ddpm: Any, reference: Reference, bench: Bench) -> Pair:
    """DPM-Solver++ without guidance beside ancestral steps, per image that passes through the network."""
    labels = torch.arange(ddpm.config.batch_size) % bench.shape.num_classes

    def drawn(model: sampling.Sampler) -> Iterator[float]:
        for index in count():
            sampling.draw(model, labels, 0, bench.accelerator.device, index)
            yield len(labels) * bench.plan.evaluations

    ours, other = (partial(rate, drawn(model)) for model in (ddpm, reference))
    what = "DDPM sampling: harness / diffusers"
    return Pair("ddpm_sampling", what, "image evaluations/s", ours, other, bench.plan.seconds)


# --- The classifier beside a DataLoader ------------------------------------------------------------------


@dataclass(frozen=True)
class Pictures(torch.utils.data.Dataset):
    """A picture per index, transformed alone, as torchvision's MNIST reads it."""

    images: Images
    transform: Callable[[Image.Image], Tensor]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = Image.fromarray(self.images.images[index, 0].numpy())
        return self.transform(picture), int(self.images.labels[index])


def classifier_pair(bench: Bench) -> Pair:
    """The same model and update; only the images' way to it differs."""
    from torchvision.transforms import Compose, Normalize, ToTensor

    config = classifier.Config(steps=FOREVER)
    models = [classifier.build(config, bench.shape, seed=0) for _ in range(2)]
    for model in models:
        model.prepare(bench.accelerator)
    batches = bench.batches(config.batch_size)
    pictures = Pictures(bench.dataset.train, Compose([ToTensor(), Normalize((0.1307,), (0.3081,))]))
    loader = DataLoader(pictures, config.batch_size, shuffle=True, num_workers=bench.plan.num_workers)

    def loaded(model: classifier.Classifier) -> Iterator[float]:
        for epoch in count():
            for images, labels in loader:
                draws = Draws(0, "train", epoch, len(labels), slice(None), batches.device)  # of which none is drawn
                model.step(Batch(images.to(batches.device), labels.to(batches.device), draws), 0)
                yield len(labels)

    return Pair(
        "classifier_training",
        "classifier training: tensor batches / DataLoader",
        "images/s",
        partial(rate, trained(models[0], batches, batches.size)),
        partial(rate, loaded(models[1])),
        bench.plan.seconds,
    )


# --- A step beside the machine ---------------------------------------------------------------------------


def work(model: Any, batches: Batches) -> tuple[float, tuple[int, ...]]:
    """GFLOP of one step, and the shape (n, in, out, H, W) of the 3x3 convolutions that have most of them."""
    shapes: Counter[tuple[int, ...]] = Counter()

    def note(conv: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if (*conv.kernel_size, *conv.stride) == (3, 3, 1, 1):
            shape = (len(output), conv.in_channels, conv.out_channels, *output.shape[2:])
            shapes[shape] += output.numel() * conv.in_channels

    hooks = [part.register_forward_hook(note) for part in model.net.modules() if isinstance(part, nn.Conv2d)]
    with FlopCounterMode(display=False) as counter:
        model.step(batches[0], 0)
    for hook in hooks:
        hook.remove()
    return counter.get_total_flops() / 1e9, shapes.most_common(1)[0][0]


def convolution_pair(ddpm: Any, batches: Batches, gflop: float, shape: tuple[int, ...], bench: Bench) -> Pair:
    """A whole step beside its commonest convolution alone, forward and back, in the better of two layouts."""
    n, inputs, outputs, height, width = shape

    def convolved(layout: torch.memory_format) -> Iterator[float]:
        conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False, **like(bench)).to(memory_format=layout)
        x = torch.randn(n, inputs, height, width, **like(bench)).to(memory_format=layout).requires_grad_()
        gradient = torch.randn(n, outputs, height, width, **like(bench)).to(memory_format=layout)
        while True:
            torch.autograd.grad(conv(x), (x, conv.weight), gradient)
            yield 3 * 2 * gradient.numel() * 9 * inputs / 1e9

    layouts = [convolved(torch.contiguous_format), convolved(torch.channels_last)]
    return Pair(
        "step_to_convolution",
        f"DDPM step / 3x3 convolution {'x'.join(map(str, shape))}",
        "GFLOP/s",
        partial(rate, trained(ddpm, batches, gflop)),
        lambda seconds: max(rate(layout, seconds / 2) for layout in layouts),
        bench.plan.seconds / 2,
    )


def product_pair(ddpm: Any, batches: Batches, gflop: float, bench: Bench) -> Pair:
    """A whole step beside a large matrix product."""
    a, b = torch.randn(2, MATRIX, MATRIX, **like(bench))

    def multiplied() -> Iterator[float]:
        while True:
            torch.mm(a, b)
            yield 2 * MATRIX**3 / 1e9

    ours, other = partial(rate, trained(ddpm, batches, gflop)), partial(rate, multiplied())
    return Pair("step_to_product", f"DDPM step / {MATRIX}³ product", "GFLOP/s", ours, other, bench.plan.seconds / 2)


def like(bench: Bench) -> dict[str, Any]:
    dtype = torch.bfloat16 if bench.plan.precision == "bf16" else torch.float32
    return {"device": bench.accelerator.device, "dtype": dtype}


# --- Training with tracking beside training alone ---------------------------------------------------------


def tracking_pair(method: str, bench: Bench, parent: Run) -> Pair:
    """Time per step with a run and without. The run's closing, with the last metrics' sending, counts as its cost."""
    model = bench.generator(method)
    batches = bench.batches(model.config.batch_size)
    steps_per_s = rate(trained(model, batches, 1), 1.0)
    tags = {"kind": "benchmark", "dataset": bench.plan.dataset}
    opened = partial(tracking.run, "benchmarks", f"tracked {method}", tags=tags, params={}, parent=parent.id)
    opened = partial(opened, tracking_uri=bench.plan.tracking_uri)
    with opened() as child:
        pass  # made once: the blocks go on with it
    done = 0

    def tracked(seconds: float) -> float:
        nonlocal done
        first, done = done, done + round(seconds * steps_per_s) + 1
        with opened(resume=child.id) as run:
            start = time.perf_counter()
            for _ in experiment.logged(train(model, batches, done, first), done, batches.size, run, bench.accelerator):
                pass
            synchronize()
        return (time.perf_counter() - start) / (done - first) * 1e3

    what = f"{method.upper()} training: tracked / bare"
    bare = partial(rate, trained(model, batches, 1))
    return Pair(f"{method}_tracking", what, "ms/step", tracked, lambda seconds: 1e3 / bare(seconds), TRACKED_S)


if __name__ == "__main__":
    cli.main(main)
