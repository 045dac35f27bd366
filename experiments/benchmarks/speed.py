"""How fast the harness is: each part beside what one would write without it, and beside the machine itself.

    python experiments/benchmarks/speed.py --dataset mnist

About four minutes on two CPU cores, which should have nothing else to do. Prints a table, a row per pair,
and logs it as a run of the MLflow experiment `benchmarks`. The two sides of a pair work in turns, a block
each; the ratio is taken turn by turn.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from turns import beside, spread, table, take_turns

from harness import cli, methods, tracking
from harness.bounds import Count, Natural, Seconds
from harness.data import datasets
from harness.data.images import Images, ImageShape
from harness.errors import InputError
from harness.evaluation import classifier
from harness.runs import generators
from harness.seeding import Draws
from harness.tracking.writing import Run
from harness.training import sampling
from harness.training.loop import Batch, Batches, train
from harness.training.resumable import Progress, train_resumably

if TYPE_CHECKING:
    from accelerate import Accelerator

FOREVER = 1_000_000  # more steps than any block gets to
WARM_UP_S = 0.3
TRACKED_S = 4.5  # a run sends its metrics every two seconds
EVALUATIONS = 10  # of the network, per sampled image
MATRIX = 2048

Work = Iterator[float]
"""An item is the amount of work that was done to yield it."""


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
    repeats: Count = 7
    """turns per pair"""
    seconds: Seconds = 1.25
    """length of a block at least; those of the tracking pairs are longer"""
    num_workers: Natural = 0
    """worker processes of the DataLoader"""


@dataclass(frozen=True)
class Bench:
    """What the measurements have in common."""

    plan: Plan
    accelerator: Accelerator
    dataset: datasets.Dataset
    shape: ImageShape

    def ready(self, method: str, **changes: Any) -> tuple[Any, Batches]:
        """A generator with its default hyperparameters but for `changes`, and the batches that train it."""
        generator: Any = methods.find(method)
        model = generators.build_generator(method, generator.Config(steps=FOREVER, **changes), self.shape, seed=0)
        model.prepare(self.accelerator)
        return model, self.batches(model.config.batch_size)

    def batches(self, size: int) -> Batches:
        return Batches((self.dataset.train, size), seed=0, accelerator=self.accelerator)


@dataclass(frozen=True)
class Pair:
    """Two ways to do one thing: blocks that work for some seconds at least and return their rates in `unit`."""

    key: str
    what: str
    unit: str
    ours: Callable[[float], float]
    other: Callable[[float], float]


def main(plan: Plan = Plan()) -> None:
    """Measure every pair, print the table and log it."""
    from accelerate import Accelerator

    accelerator = Accelerator(mixed_precision=plan.precision)
    if accelerator.num_processes > 1:
        raise InputError("the benchmark is for one process; start it with python, not with a launcher")
    dataset = datasets.load(plan.dataset, plan.data_root)
    bench = Bench(plan, accelerator, dataset, dataset.image_shape)
    ddpm, batches = bench.ready("ddpm", guidance=0.0, sampler="dpm-solver++", sampler_steps=EVALUATIONS)
    reference = Reference(ddpm, bench)
    facts = {
        "batch_size": batches.size,
        "parameters": num_parameters(ddpm.net),
        "diffusers_parameters": num_parameters(reference.net),
        "gflop_per_step": round(cost(ddpm, batches)[0], 2),
        "diffusers_gflop_per_step": round(cost(reference, batches)[0], 2),
        "device": accelerator.device.type,
        "num_threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    tags = {"kind": "benchmark", "dataset": plan.dataset}
    params = {**dataclasses.asdict(plan), **facts}
    with tracking.run(
        "benchmarks", f"benchmark {plan.dataset}", tags=tags, params=params, tracking_uri=plan.tracking_uri
    ) as run:
        pairs = [*diffusion(ddpm, reference, batches), *data_path(bench), *machine(ddpm, batches, bench)]
        rows = [measure(pair, plan.seconds, plan.repeats, run) for pair in pairs]
        pairs = [tracked_and_bare(method, bench, run) for method in ("ddpm", "gan")]
        rows += [measure(pair, TRACKED_S, plan.repeats, run) for pair in pairs]
        notes = ", ".join(f"{name} {value}" for name, value in facts.items())
        text = f"{table(rows)}\n\nMedian [least, most] of {plan.repeats} turns; {notes}"
        print(text)
        run.text(f"{text}\n", "benchmark.md")


# --- Measuring -------------------------------------------------------------------------------------------


def measure(pair: Pair, seconds: float, repeats: int, run: Run) -> dict[Any, str]:
    """The pair's row of the table. All figures are logged: medians and extremes, and each turn as a step."""
    for block in (pair.ours, pair.other):
        block(WARM_UP_S)
    sides = {"ours": partial(pair.ours, seconds), "other": partial(pair.other, seconds)}
    turns = beside(take_turns(sides, repeats), "ours", "other")
    for name, values in turns.items():
        key = f"{pair.key}/{name}"
        run.metrics({key: values.median(), f"{key}_min": values.min(), f"{key}_max": values.max()})
        for turn, value in enumerate(values):
            run.metrics({f"{key}_turn": value}, turn)
    return {"ours / other": pair.what, "unit": pair.unit, **turns.apply(spread).to_dict()}


def rate(work: Work, seconds: float) -> float:
    """Amount per second over `seconds` and the rest of what was begun."""
    synchronize()
    amount, start = 0.0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        amount += next(work)
    synchronize()
    return amount / (time.perf_counter() - start)


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def training(model: Any, batches: Batches, amount: float) -> Work:
    """The harness's loop, each step worth `amount`."""
    for _ in train(model, batches, FOREVER):
        yield amount


# --- DDPM beside diffusers -------------------------------------------------------------------------------


def diffusion(ddpm: Any, reference: Reference, batches: Batches) -> Iterator[Pair]:
    """Training over the same tensor batches, so that network and update differ; ours averages its weights besides.

    Sampling by DPM-Solver++ without guidance and by ancestral steps, counted in passes of an image through the net.
    """
    blocks = [partial(rate, training(model, batches, batches.size)) for model in (ddpm, reference)]
    yield Pair("ddpm_training", "DDPM training: harness / diffusers", "images/s", *blocks)
    blocks = [partial(rate, drawing(model, batches)) for model in (ddpm, reference)]
    yield Pair("ddpm_sampling", "DDPM sampling: harness / diffusers", "image evaluations/s", *blocks)


def drawing(model: sampling.Sampler, batches: Batches) -> Work:
    labels = batches[0].labels
    for index in count():
        sampling.draw_images(model, labels, 0, batches.device, index)
        yield len(labels) * EVALUATIONS


class Reference:
    """The same diffusion as diffusers' tutorials write it: UNet2DModel, DDPMScheduler, AdamW.

    The U-Net is that of the Hugging Face diffusion course for MNIST (three levels, two layers each, attention on
    the lower two) with its channels halved; the coarsest level's width makes the parameters as many as ours.
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
                down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
                up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
                layers_per_block=2,
                norm_num_groups=4,
                attention_head_dim=4,
                num_class_embeds=bench.shape.num_classes,
            )

        wanted = num_parameters(ddpm.net)
        with torch.device("meta"):
            width = min(range(8, 129, 4), key=lambda width: abs(num_parameters(unet(width)) - wanted))
        self.net, self.bf16 = unet(width).to(bench.accelerator.device), bench.plan.precision == "bf16"
        self.scheduler: Any = DDPMScheduler(ddpm.config.num_steps)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=ddpm.config.learning_rate)

    def step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        x_0 = batch.images
        eps = torch.randn_like(x_0)
        t = torch.randint(len(self.scheduler.betas), (len(x_0),), device=x_0.device)
        x_t = self.scheduler.add_noise(x_0, eps, t)
        with torch.autocast(x_0.device.type, torch.bfloat16, enabled=self.bf16):
            loss = F.mse_loss(self.net(x_t, t, batch.labels).sample.float(), eps)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"train/loss": loss.detach()}

    @torch.no_grad()
    def sample(self, labels: Tensor, draws: Draws) -> Tensor:
        self.scheduler.set_timesteps(EVALUATIONS)
        x = draws.normal("x_T", self.net.config.in_channels, *[self.net.config.sample_size] * 2)
        for t in self.scheduler.timesteps:
            x = self.scheduler.step(self.net(x, t, labels).sample, t, x).prev_sample
        return x


def num_parameters(net: nn.Module) -> int:
    return sum(weight.numel() for weight in net.parameters())


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


def data_path(bench: Bench) -> Iterator[Pair]:
    """The images' way to the same classifier and update; then the whole of the public PyTorch MNIST example."""
    from torchvision.transforms import Compose, Normalize, ToTensor

    config = classifier.Config(steps=FOREVER)
    ours, other = (classifier.build_classifier(config, bench.shape, seed=0) for _ in range(2))
    for model in (ours, other):
        model.prepare(bench.accelerator)
    batches = bench.batches(config.batch_size)
    pictures = Pictures(bench.dataset.train, Compose([ToTensor(), Normalize((0.1307,), (0.3081,))]))
    draws = batches[0].draws  # a batch has them; the classifier draws nothing

    def loaded(model: Any, batch_size: int) -> Work:
        loader = DataLoader(pictures, batch_size, shuffle=True, num_workers=bench.plan.num_workers)
        while True:
            for images, labels in loader:
                real = torch.zeros_like(labels)
                model.step(Batch(images.to(batches.device), labels.to(batches.device), draws, real), 0)
                yield len(labels)

    harness = partial(rate, training(ours, batches, batches.size))
    same = partial(rate, loaded(other, config.batch_size))
    yield Pair("classifier_loader", "classifier training: tensors / DataLoader", "images/s", harness, same)
    example = partial(rate, loaded(Example(bench), 64))
    yield Pair(
        "classifier_example", "classifier training: harness / PyTorch's MNIST example", "images/s", harness, example
    )


class Example:
    """PyTorch's public MNIST example (pytorch/examples, mnist/main.py): its network, batch of 64 and Adadelta."""

    def __init__(self, bench: Bench) -> None:
        pixels = (bench.shape.height - 4) // 2 * ((bench.shape.width - 4) // 2)
        self.net = nn.Sequential(
            nn.Conv2d(bench.shape.channels, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
            nn.Dropout(0.25), nn.Flatten(), nn.Linear(64 * pixels, 128), nn.ReLU(), nn.Dropout(0.5),
            nn.Linear(128, bench.shape.num_classes), nn.LogSoftmax(dim=1),
        ).to(bench.accelerator.device)  # fmt: skip
        self.optimizer = torch.optim.Adadelta(self.net.parameters(), lr=1.0)

    def step(self, batch: Batch, step: int) -> None:
        self.optimizer.zero_grad()
        F.nll_loss(self.net(batch.images), batch.labels).backward()
        self.optimizer.step()


# --- A step beside the machine ---------------------------------------------------------------------------


def machine(ddpm: Any, batches: Batches, bench: Bench) -> Iterator[Pair]:
    """A whole step beside its main convolution alone, in the better of two layouts, and beside a matrix product."""
    gflop, shape = cost(ddpm, batches)
    kind = {
        "device": bench.accelerator.device,
        "dtype": torch.bfloat16 if bench.plan.precision == "bf16" else torch.float32,
    }
    layouts = [convolution(shape, layout, **kind) for layout in (torch.contiguous_format, torch.channels_last)]
    better = max(layouts, key=lambda layout: max(rate(layout, WARM_UP_S) for _ in range(2)))
    what = f"DDPM step / 3x3 convolution {'x'.join(map(str, shape))}"
    step = partial(rate, training(ddpm, batches, gflop))
    yield Pair("step_to_convolution", what, "GFLOP/s", step, partial(rate, better))
    yield Pair("step_to_product", f"DDPM step / {MATRIX}³ product", "GFLOP/s", step, partial(rate, product(**kind)))


def cost(model: Any, batches: Batches) -> tuple[float, tuple[int, ...]]:
    """GFLOP of one step, and the shape (n, in, out, H, W) of the 3x3 convolutions that have most of them."""
    shapes: Counter[tuple[int, ...]] = Counter()

    def note(conv: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if (*conv.kernel_size, *conv.stride) == (3, 3, 1, 1):
            shapes[len(output), conv.in_channels, *output.shape[1:]] += output.numel() * conv.in_channels

    hooks = [part.register_forward_hook(note) for part in model.net.modules() if isinstance(part, nn.Conv2d)]
    with FlopCounterMode(display=False) as counter:
        model.step(batches[0], 0)
    for hook in hooks:
        hook.remove()
    return counter.get_total_flops() / 1e9, shapes.most_common(1)[0][0]


def convolution(shape: tuple[int, ...], layout: torch.memory_format, **kind: Any) -> Work:
    """GFLOP of a 3x3 convolution, forward and back to its input and its weights."""
    n, inputs, outputs, height, width = shape
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False, **kind).to(memory_format=layout)
    x = torch.randn(n, inputs, height, width, **kind).to(memory_format=layout).requires_grad_()
    gradient = torch.randn(n, outputs, height, width, **kind).to(memory_format=layout)
    while True:
        torch.autograd.grad(conv(x), (x, conv.weight), gradient)
        yield 3 * 2 * 9 * inputs * gradient.numel() / 1e9


def product(**kind: Any) -> Work:
    """GFLOP of a product of two square matrices."""
    a, b = torch.randn(2, MATRIX, MATRIX, **kind)
    while True:
        torch.mm(a, b)
        yield 2 * MATRIX**3 / 1e9


# --- Training with tracking beside training alone ---------------------------------------------------------


def tracked_and_bare(method: str, bench: Bench, parent: Run) -> Pair:
    """Time per step with a run and without. The closing counts, as it sends the last metrics.

    What closing an empty run takes is subtracted: a run pays it once, not once in a few seconds.
    """
    model, batches = bench.ready(method)
    bare = partial(rate, training(model, batches, 1))
    steps_per_s = bare(1.0)
    opened = partial(
        tracking.run,
        "benchmarks",
        f"tracked {method}",
        tags={"kind": "benchmark", "dataset": bench.plan.dataset},
        params={},
        parent=parent.id,
        tracking_uri=bench.plan.tracking_uri,
    )
    with opened() as child:
        pass  # made once: every block goes on with it
    done = 0

    def closing() -> float:
        with opened(resume=child.id):
            start = time.perf_counter()
        return time.perf_counter() - start

    def tracked(seconds: float) -> float:
        nonlocal done
        first, done = done, done + round(seconds * steps_per_s) + 1
        once = closing()
        with opened(resume=child.id) as run:
            start = time.perf_counter()
            for _ in train_resumably(Progress(model, bench.accelerator, step=first), batches, done, FOREVER, run):
                pass
            synchronize()
        return (time.perf_counter() - start - once) / (done - first) * 1e3

    what = f"{method.upper()} training: tracked / bare"
    return Pair(f"{method}_tracking", what, "ms/step", tracked, lambda seconds: 1e3 / bare(seconds))


if __name__ == "__main__":
    cli.main(main)
