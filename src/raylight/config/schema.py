"""The schema of a run: the single list of every setting, its type, unit, default and why.

Plain dataclasses, so that OmegaConf checks types and mypy checks uses. What a value may be stands beside its type, in
``Annotated``: a ``Range``, or the words of a ``Literal`` (which OmegaConf 2.3 doesn't take as a type). Importing this
module imports nothing heavy. Nodes typed ``Any`` hold Hydra ``_target_`` nodes, which ``raylight.config.check`` binds to the
signature that they call.
"""

import os
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal


@dataclass(frozen=True)
class Range:
    """Smallest and largest value of a number, both allowed."""

    low: float
    """Smallest value."""
    high: float
    """Largest value."""


@dataclass
class DataConfig:
    """Which images, and how they are split."""

    name: str = "demo"
    """Name of the data set in run folders, tables and dashboards."""
    kind: Annotated[str, Literal["demo", "folder"]] = "folder"
    """``demo`` draws its images; ``folder`` reads them from ``root``."""
    source: Any = None
    """``_target_`` node of a class with ``entries()`` and ``read(key)``, instead of files in ``root``."""
    root: str | None = None
    """Folder with the images, or its URI (``s3://``, ``gs://``, ...). ``null``: ``datasets/<name>`` here."""
    layout: Annotated[str, Literal["auto", "split_folders", "class_folders", "flat", "csv"]] = "auto"
    """``auto``, ``split_folders`` (root/train/class), ``class_folders`` (root/class), ``flat`` (cat.0.jpg), ``csv``."""
    csv: str | None = None
    """A table with the columns path, label and optionally group and split; paths are relative to ``root``."""
    positive_class: str | None = None
    """The class that recall, AUROC, ... speak of. ``null`` takes the last one in alphabetical order."""
    group_pattern: str | None = None
    """Regular expression on the file name (the path, where no name matches) whose first group names the patient or object."""
    group_duplicates: bool = True
    """Files with the same content, or nearly the same picture, never stand on both sides of a split we cut."""
    val_fraction: Annotated[float, Range(0.0, 0.9)] = 0.1
    """Share of the images for validation, cut from train. 0 where the data set ships one, or with ``folds``."""
    test_fraction: Annotated[float, Range(0.0, 0.9)] = 0.1
    """Share of the images for test, where the data set ships no test split of its own; then above 0."""
    folds: Annotated[int | None, Range(2, 1000)] = None
    """Number of cross-validation folds over everything that isn't shipped as test."""
    fold: Annotated[int | None, Range(0, 999)] = None
    """Which fold is held out as validation, counted from 0."""
    split_seed: int | None = 1
    """Seed of the split: all seeds share one split by default, so that runs can be compared image by image. ``null`` follows
    ``seed``."""
    limit: Annotated[int | None, Range(1, 10**9)] = None
    """Use at most this many images of each class, the same ones for the same seed."""
    max_bad_fraction: Annotated[float, Range(0.0, 1.0)] = 0.05
    """Stop when more than this share of the files can't be used."""
    sampler: Annotated[str, Literal["uniform", "weighted"]] = "uniform"
    """``uniform``: each training image once an epoch; ``weighted``: as many, drawn with replacement, classes equally often."""
    feed: Annotated[str, Literal["cache", "stream"]] = "cache"
    """``cache`` decodes each image once and keeps it on disk; ``stream`` decodes it in each epoch and keeps nothing."""
    shuffle_buffer: Annotated[int, Range(0, 10**7)] = 512
    """stream: decoded images that wait to be drawn from; 0 uses them in the order in which they are read."""
    download: bool = False
    """Fetch the data set into ``root`` when it isn't there."""
    kaggle: str | None = None
    """``owner/name`` of the Kaggle data set that ``download`` fetches; ``null`` where there is none."""
    archive_url: str | None = None
    """Address of the public archive that ``download`` fetches; ``null`` where there is none."""
    archive_sha256: str | None = None
    """Checksum of that archive."""
    homepage: str | None = None
    """Where a person gets the data set; named when it is missing."""
    medical: bool = False
    """Marks reports as research only."""


@dataclass
class DecodeConfig:
    """How files become pixels. Both engines give the same bytes."""

    engine: Annotated[str, Literal["auto", "ray", "threads"]] = "auto"
    """``ray`` (Ray Data, one machine or a cluster), ``threads`` (in this process), or ``auto``: Ray Data where a cluster is
    joined or there are 10,000 images or more, so that the seconds that its start takes don't matter; threads otherwise."""
    workers: Annotated[int | None, Range(1, 4096)] = None
    """Decoding tasks at a time. ``null`` takes every core that this process may use."""


@dataclass
class RayConfig:
    """The Ray session, started only when something is to be decoded or distributed."""

    address: str | None = None
    """``null`` starts a local session; ``auto`` or host:port joins a running cluster."""
    object_store_gb: Annotated[float, Range(0.08, 10**4)] = 0.5
    """Size of a local session's object store, in GB (10^9 bytes)."""

    @property
    def place(self) -> str:
        """The address of the cluster that is joined, by the environment's ``RAY_ADDRESS`` where none is set, or ``local``."""
        return self.address or os.environ.get("RAY_ADDRESS") or "local"


@dataclass
class AugmentConfig:
    """Random changes of training images, per sample, on uint8[3, height, width]."""

    name: str = "none"
    """Name of the augmentation in tables."""
    transforms: list[Any] = field(default_factory=list)
    """``torchvision.transforms.v2`` nodes, applied in order."""
    batch: list[Any] = field(default_factory=list)
    """Transforms of whole batches that mix pictures and their classes: ``mixup`` (alpha 0.2), ``cutmix`` (alpha 1), or
    ``_target_`` nodes; of several, one is drawn for each batch."""


@dataclass
class ModelConfig:
    """The network and its input, which its weights know best: ``null`` takes what they were published (or trained) with.

    Without weights it is what the published ones have; a convnet's own is 64 pixels, ``stretch`` and ``unit``.
    """

    name: str = "cnn2"
    """Name in tables; for ``family=torchvision`` and ``family=timm`` the name of the classifier there."""
    family: Annotated[str, Literal["convnet", "torchvision", "timm", "own"]] = "convnet"
    """``convnet`` (our small networks), ``torchvision`` or ``timm`` (any classifier that they list), ``own`` (``_target_``)."""
    _target_: str | None = None
    """own: dotted name of a class (or function) that makes a network of your own. It is given the number of classes as
    ``num_classes``, ``n_classes``, ``classes`` or ``out_features``; else its last linear layer is replaced."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """own: further arguments of ``_target_``, by name."""
    stages: list[str] = field(default_factory=list)
    """own: paths of the modules that run one after the other, for freezing. Empty: they are looked for."""
    weights: str | None = None
    """``null`` starts from random weights, ``DEFAULT`` takes those that torchvision or timm publish, else the path of a state
    dict, of a folder that has it by the network's name, or a run (its folder, or a checkpoint in it); all but the head where
    that was made for other classes."""
    image_size: Annotated[Any, Range(1, 4096)] = None
    """Height and width of the input, in pixels: one number for both, or ``[HEIGHT, WIDTH]``. ``null``: of the weights."""
    resize: Annotated[str | None, Literal["stretch", "crop", "pad"]] = None
    """``stretch`` ignores the aspect ratio; ``crop`` resizes the shorter side and cuts the centre; ``pad`` shows all of the
    picture, with a border of the mean colour (what ``normalize`` turns into zero). ``null``: of the weights."""
    resize_size: Annotated[int | None, Range(1, 8192)] = None
    """Length in pixels that the shorter side (``stretch``: both) is resized to before the centre is cut out; where height and
    width differ, of the shorter one, and the other in proportion. ``null``: in the weights' proportion to the size, else 8/7 of
    it; with ``stretch`` all of the picture is kept."""
    interpolation: Annotated[str | None, Literal["bilinear", "bicubic"]] = None
    """``bilinear`` or ``bicubic``, both antialiased. ``null``: of the weights."""
    normalize: Any = None
    """``unit`` scales to 0..1; ``centered`` to -1..1; ``imagenet`` subtracts ImageNet's mean and divides by its standard
    deviation; ``{mean: [R, G, B], std: [R, G, B]}`` likewise. ``null``: of the weights."""
    head: Annotated[str, Literal["softmax", "sigmoid"]] = "softmax"
    """``softmax`` has one output a class; ``sigmoid`` one output for two classes (binary cross-entropy)."""
    dense: list[int] = field(default_factory=list)
    """Widths of dense layers between the features and the output."""
    dropout: Annotated[float, Range(0.0, 0.99)] = 0.0
    """Dropout before each dense layer and the output."""
    channels: list[int] = field(default_factory=list)
    """convnet: output channels of each convolution block."""
    padding: Annotated[str, Literal["same", "valid"]] = "same"
    """convnet: ``same`` keeps the size in a convolution, ``valid`` does not pad."""
    batch_norm: bool = False
    """convnet: BatchNorm after each convolution."""
    conv_dropout: Annotated[float, Range(0.0, 0.99)] = 0.0
    """convnet: channel dropout after each pooling."""
    pool: Annotated[str, Literal["flatten", "average"]] = "flatten"
    """convnet: ``flatten`` the last feature map, or ``average`` it."""
    last_blocks_from: str | None = None
    """Stage from which ``last_blocks`` trains, by name. ``null`` takes the last quarter of the stages."""


@dataclass
class PhaseConfig:
    """A stretch of epochs in which one part of the network trains."""

    train_from: str = "all"
    """``all``, ``head``, ``last_blocks``, or the name of the first stage that trains."""
    epochs: int | None = None
    """Length in epochs; ``null`` for the last phase means: all that ``trainer.max_epochs`` leaves."""
    share: float | None = None
    """Length as a share of ``trainer.max_epochs``, rounded up, instead of ``epochs``."""
    solve: bool = False
    """The head alone: solve for its optimum on cached features (logistic regression) in one epoch, instead of stepping towards
    it. A head that isn't one linear layer trains for ``epochs`` or ``share``; without these it is refused."""
    learning_rate: float | None = None
    """Learning rate of this phase; ``null`` takes the optimizer's."""
    backbone_factor: float = 1.0
    """Discriminative rates: stages below the head train at this multiple of the learning rate."""


@dataclass
class FinetuneConfig:
    """Which layers train when, and whether the frozen ones are computed once."""

    name: str = "scratch"
    """Name of the recipe in tables."""
    phases: list[PhaseConfig] = field(default_factory=lambda: [PhaseConfig()])
    """Phases, in order."""
    without_weights: list[PhaseConfig] = field(default_factory=list)
    """Phases that stand for these where ``model.weights`` is ``null``; none: there are no others."""
    cache: bool = True
    """Compute what lies below the first trainable stage once and keep it; false recomputes it at each step."""
    cache_dir: str | None = None
    """Where those features are kept. ``null``: beside the decoded images, in ``cache_dir``."""
    views: Annotated[int | None, Range(0, 1000)] = None
    """With augmentation: augmented views per image that the frozen layers see, one per epoch in turn. ``null``: one for each
    epoch of a phase, 10 at most (a single one would stand for the image in all epochs); 0: the images as they are."""
    requires_weights: bool = False
    """The recipe makes no sense on a randomly started network."""
    samples: Annotated[int | None, Range(1, 10**12)] = None
    """Where ``trainer.max_epochs`` is ``null``: images to go through in training, counted each time. Epochs are this number
    over that of the images, at least 3 and at most ``most_epochs``."""
    most_epochs: Annotated[int, Range(1, 10**6)] = 12
    """Where ``trainer.max_epochs`` is ``null``: epochs at most."""


@dataclass
class LossConfig:
    """The training loss."""

    name: str = "cross_entropy"
    """Name in tables."""
    _target_: str | None = None
    """Dotted name of a class of your own: a module of logits float[batch, class] and targets int64[batch] that gives their mean
    loss, or each image's. Where its signature has such names, it gets ``num_classes``, ``weight`` or ``class_weights``, and
    ``label_smoothing``."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Further arguments of ``_target_``, by name."""
    label_smoothing: Annotated[float, Range(0.0, 0.99)] = 0.0
    """Share of the target spread over all classes, 0 to 1."""
    class_weights: Annotated[str | None, Literal["balanced"]] = None
    """``balanced`` weighs classes by inverse frequency in train; ``null`` weighs all alike."""
    focal_gamma: Annotated[float, Range(0.0, 100.0)] = 0.0
    """Focal loss exponent (Lin et al. 2017); 0 is plain cross-entropy."""


@dataclass
class TrainerConfig:
    """How training runs on this machine."""

    name: str = "cpu"
    """Name of the option."""
    accelerator: Annotated[str, Literal["cpu", "gpu"]] = "cpu"
    """``cpu`` or ``gpu`` (one GPU for each training process)."""
    launcher: Annotated[str, Literal["none", "processes", "ray"]] = "none"
    """What starts training processes: ``none`` (training stays in this one), ``processes`` of this machine, or ``ray``."""
    num_workers: Annotated[int, Range(1, 10**5)] = 1
    """Training processes; each takes its share of every batch. With ``launcher=ray`` one has a thread for each CPU it gets."""
    max_failures: Annotated[int, Range(0, 10**6)] = 3
    """``launcher=ray``: how often lost training processes are started again, from the last whole epoch."""
    max_epochs: Annotated[int | None, Range(1, 10**6)] = 10
    """Epochs in all phases together. ``null``: as many as ``finetune.samples`` gives for so many images."""
    batch_size: Annotated[int, Range(1, 10**6)] = 32
    """Images a step, over all training processes."""
    precision: Annotated[str, Literal["auto", "32", "bf16", "16"]] = "auto"
    """``auto`` takes the fastest that keeps the loss; ``32`` or ``bf16`` fix it, on a GPU also ``16``."""
    channels_last: Annotated[str, Literal["auto", "true", "false"]] = "auto"
    """Memory format: ``auto``, ``true`` or ``false``."""
    threads: Annotated[int | None, Range(1, 4096)] = None
    """Threads of torch's operators, over all training processes of this machine; ``null`` takes every core that is allowed."""
    monitor: str = "val/loss"
    """Validation metric that chooses the checkpoint."""
    monitor_mode: Annotated[str, Literal["min", "max"]] = "min"
    """``min`` or ``max``."""
    patience: Annotated[int | None, Range(1, 10**6)] = None
    """Stop after this many epochs without improvement; ``null`` never stops early."""
    max_minutes: Annotated[float | None, Range(1e-3, 10**6)] = None
    """Minutes of training at most, over all sessions of a run: it stops when another epoch wouldn't fit in, or within one that
    takes longer; decoding, testing and the report come on top. ``null`` sets no limit. Schedules aren't shortened."""
    gradient_clip: Annotated[float | None, Range(1e-9, 1e9)] = None
    """Largest gradient norm; ``null`` doesn't clip."""
    averaging: Annotated[str, Literal["none", "ema", "swa"]] = "none"
    """Weights that are validated and kept: ``none``, each epoch's own; ``ema``, their exponential moving average over steps;
    ``swa``, their mean over the ends of epochs. Each phase begins a new average."""
    averaging_start: Annotated[int, Range(0, 10**6)] = 0
    """First epoch that is averaged, counted from 0; epochs before it are validated as they are."""
    ema_decay: Annotated[float, Range(0.0, 1.0)] = 0.99
    """Decay of the exponential moving average, a step."""
    limit_batches: Annotated[int | None, Range(1, 10**9)] = None
    """Batches an epoch at most (for debugging); ``null`` takes all."""
    progress: Annotated[str, Literal["auto", "lines", "off"]] = "auto"
    """``auto`` draws bars on a terminal and prints lines elsewhere; ``lines``; ``off``."""


@dataclass
class LoggerConfig:
    """Where curves go besides the run folder."""

    name: Annotated[str, Literal["wandb", "tensorboard", "csv", "none"]] = "wandb"
    """``wandb``, ``tensorboard``, ``csv`` (the run folder's own history alone) or ``none``."""
    also: list[Any] = field(default_factory=list)
    """Further loggers at the same time: ``tensorboard``, or ``_target_`` nodes of Lightning's loggers and your own. What has a
    ``save_dir`` writes into the run folder."""
    project: str = "raylight"
    """W&B project."""
    entity: str | None = None
    """W&B entity; ``null`` takes the account's default."""
    mode: Annotated[str, Literal["offline", "online", "disabled"]] = "offline"
    """``offline`` or ``online``; the environment's WANDB_MODE wins."""
    group: str | None = None
    """W&B group; sweeps set it to the sweep's name."""
    tags: list[str] = field(default_factory=list)
    """W&B tags."""
    artifacts: bool = True
    """Log the best checkpoint and the split as artifacts."""


@dataclass
class DecisionConfig:
    """From probabilities to a decision; chosen on validation only. Two-class data."""

    threshold: str = "0.5"
    """A number, ``youden``, ``f1``, ``recall>=0.95`` (likewise precision, specificity), or ``cost``."""
    cost_miss: Annotated[float, Range(0.0, 1e12)] = 1.0
    """``cost``: price of a missed positive."""
    cost_false_alarm: Annotated[float, Range(0.0, 1e12)] = 1.0
    """``cost``: price of a false alarm."""
    calibrate: bool = True
    """Fit a temperature on validation."""
    abstain: Annotated[float | None, Range(0.5, 0.9999)] = None
    """Answer only where so large a share of the answers is right, with 95 % confidence by validation; 0.99 takes 299 validation
    images at least. ``null``: every image is answered."""
    unknown: Annotated[float | None, Range(0.001, 0.5)] = None
    """Refuse images that are unlike all training images; at most this share of images like validation's is refused with them.
    ``null``: every image is given a class."""


@dataclass
class ReportConfig:
    """What is written beside the numbers."""

    enabled: bool = True
    """Write ``report.html``."""
    plots: bool = True
    """Draw ``plots/*.png``."""
    vector: Annotated[str, Literal["none", "pdf", "svg"]] = "none"
    """Write the same figures as vector graphics for a paper, too."""
    gradcam: bool = True
    """Show where the network looked on the report's example images."""
    neighbours: bool = True
    """Show, beside each error in the report, the training images most alike to the network; not with ``data.feed=stream``."""
    shortcuts: bool = False
    """Test the network on images without their centre, their detail, ...: what does it go by? Costs some predictions."""
    subgroups: dict[str, list[Any]] = field(default_factory=dict)
    """Subgroups of the test images to be judged by themselves: further columns of the data, ``mode``, ``format`` or DICOM
    keywords, each with edges that make ranges of its numbers, or none, so that each value is a subgroup:
    ``+report.subgroups.sex=[] +report.subgroups.age=[40,60]``"""


@dataclass
class RunConfig:
    """A whole run."""

    data: DataConfig = field(default_factory=DataConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    ray: RayConfig = field(default_factory=RayConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: Any = None
    """Partial ``_target_`` node of a ``torch.optim`` class."""
    scheduler: Any = None
    """Partial ``_target_`` node of a ``torch.optim.lr_scheduler`` class, stepped once an epoch; ``null``: constant."""
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    metrics: dict[str, Any] = field(default_factory=dict)
    """Further metrics, by name: ``_target_`` nodes of torchmetrics' classes and your own, which take probabilities float[image,
    class] and classes int[image]. ``+metrics.f2._target_=torchmetrics.classification.BinaryFBetaScore +metrics.f2.beta=2.0``"""
    callbacks: list[Any] = field(default_factory=list)
    """``_target_`` nodes of Lightning's callbacks and your own, beside the run's."""
    decision: DecisionConfig = field(default_factory=DecisionConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    seed: Annotated[int, Range(0, 2**32 - 1)] = 1
    """Seed of weights, order and augmentation; of the split, too, with ``data.split_seed=null``."""
    cache_dir: str = "${oc.env:RAYLIGHT_CACHE,${oc.env:HOME,.}/.cache/raylight}"
    """Decoded images, features and measured settings, shared by all runs."""
    allowed_targets: list[str] = field(default_factory=list)
    """Packages besides raylight, torch, torchvision, torchmetrics and pytorch_lightning that ``_target_`` may name."""
    notes: str | None = None
    """Free text, shown in the report."""
    run: str | None = None
    """Folder of an interrupted run to go on with, in place and with its own settings; stands alone on the command line."""
    resume: str | None = None
    """Folder of a sweep to go on with; its finished jobs aren't run again. Alone, it repeats the sweep's own command."""

    @property
    def split_seed(self) -> int:
        """What the split is cut by."""
        return self.seed if self.data.split_seed is None else self.data.split_seed
