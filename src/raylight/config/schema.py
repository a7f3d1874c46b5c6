"""The schema of a run: the single list of all settings, with type, unit, default and reason.

Plain dataclasses, so that OmegaConf checks types and mypy checks uses. The allowed values are beside the type, in
``Annotated``: a ``Range``, or the words of a ``Literal`` (which OmegaConf 2.3 doesn't accept as a type). Importing this
module imports nothing heavy. Settings typed ``Any`` are Hydra ``_target_`` nodes, whose arguments ``raylight.config.check``
binds to the signature that they call.
"""

import os
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal


@dataclass(frozen=True)
class Range:
    """The range of a number, with both ends."""

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
    """``_target_`` node of a class with ``entries()`` and ``read(key)``, which replaces the files in ``root``."""
    root: str | None = None
    """Folder with the images, or its URI (``s3://``, ``gs://``, ...). ``null``: ``datasets/<name>`` in the working folder."""
    layout: Annotated[str, Literal["auto", "split_folders", "class_folders", "flat", "csv"]] = "auto"
    """``auto``, ``split_folders`` (root/train/class), ``class_folders`` (root/class), ``flat`` (cat.0.jpg), ``csv``."""
    csv: str | None = None
    """A table with the columns path, label and optionally group and split; paths are relative to ``root``."""
    positive_class: str | None = None
    """The class that recall, AUROC, ... refer to. ``null`` takes the last one in alphabetical order."""
    group_pattern: str | None = None
    """Regular expression on the file name (on the path, if no name matches) whose first group is the patient or object."""
    group_duplicates: bool = True
    """Keep files with the same content, or nearly the same picture, in the same split; shipped splits stay as they are."""
    val_fraction: Annotated[float, Range(0.0, 0.9)] = 0.1
    """Share of the images for validation, taken from train. 0 if the data set ships a validation split, or with ``folds``."""
    test_fraction: Annotated[float, Range(0.0, 0.9)] = 0.1
    """Share of the images for test, above 0; not used if the data set ships a test split."""
    folds: Annotated[int | None, Range(2, 1000)] = None
    """Number of cross-validation folds over everything that isn't shipped as test."""
    fold: Annotated[int | None, Range(0, 999)] = None
    """The fold that is held out for validation, counted from 0."""
    split_seed: int | None = 1
    """Seed of the split. By default, all values of ``seed`` have the same split, so that runs can be compared image by image;
    ``null`` takes ``seed``."""
    limit: Annotated[int | None, Range(1, 10**9)] = None
    """Maximum number of images per class; the same ones for the same seed. ``null``: all."""
    max_bad_fraction: Annotated[float, Range(0.0, 1.0)] = 0.05
    """Stop if more than this share of the files can't be used."""
    sampler: Annotated[str, Literal["uniform", "weighted"]] = "uniform"
    """``uniform``: each training image once per epoch; ``weighted``: as many, drawn with replacement, all classes equally
    often."""
    feed: Annotated[str, Literal["cache", "stream"]] = "cache"
    """``cache`` decodes each image once and keeps it on disk; ``stream`` decodes it in each epoch and keeps nothing."""
    shuffle_buffer: Annotated[int, Range(0, 10**7)] = 512
    """``feed=stream``: number of decoded images to draw from at random; 0 keeps the order in which they are read."""
    download: bool = False
    """Download the data set into ``root`` if it isn't there."""
    kaggle: str | None = None
    """``owner/name`` of the Kaggle data set to download; ``null`` if there is none."""
    archive_url: str | None = None
    """URL of the public archive to download; ``null`` if there is none."""
    archive_sha256: str | None = None
    """Checksum of that archive."""
    homepage: str | None = None
    """Where the data set can be obtained, for the message if it is missing."""
    medical: bool = False
    """Marks reports as research only."""


@dataclass
class DecodeConfig:
    """Decoding of files to pixels. Both engines give the same pixels."""

    engine: Annotated[str, Literal["auto", "ray", "threads"]] = "auto"
    """``ray`` (Ray Data, one machine or a cluster), ``threads`` (in this process), or ``auto``: Ray Data if a cluster is
    joined or there are 20,000 images or more, so that its start of some 10 s doesn't matter; else threads."""
    workers: Annotated[int | None, Range(1, 4096)] = None
    """Number of decoding tasks at a time. ``null`` takes one per core that this process may use."""


@dataclass
class RayConfig:
    """The Ray session, started only if images are decoded or training is distributed with Ray."""

    address: str | None = None
    """``null`` starts a local session; ``auto`` or host:port joins a running cluster."""
    object_store_gb: Annotated[float, Range(0.08, 10**4)] = 0.5
    """Size of the object store of a local session, in GB (10^9 bytes)."""

    @property
    def cluster(self) -> str:
        """The address of the cluster to join, from the environment's ``RAY_ADDRESS`` if none is set, or ``local``."""
        return self.address or os.environ.get("RAY_ADDRESS") or "local"


@dataclass
class AugmentConfig:
    """Random augmentation of training images, per image, on uint8[3, height, width]."""

    name: str = "none"
    """Name of the augmentation in tables."""
    transforms: list[Any] = field(default_factory=list)
    """``torchvision.transforms.v2`` nodes, applied in order."""
    batch: list[Any] = field(default_factory=list)
    """Transforms of whole batches that mix images and their classes: ``mixup`` (alpha 0.2), ``cutmix`` (alpha 1), or
    ``_target_`` nodes; of several, one is drawn per batch."""


@dataclass
class ModelConfig:
    """The network and its preprocessing; for the latter, ``null`` takes what the weights were published (or trained) with.

    Without weights, it takes what the published ones have; for a convnet, 64 pixels, ``stretch`` and ``unit``.
    """

    name: str = "cnn2"
    """Name in tables; with ``family=torchvision`` or ``family=timm``, the name of the classifier there."""
    family: Annotated[str, Literal["convnet", "torchvision", "timm", "own"]] = "convnet"
    """``convnet`` (small networks), ``torchvision`` or ``timm`` (any of their classifiers), ``own`` (``_target_``)."""
    _target_: str | None = None
    """own: dotted name of a class (or function) that makes a network of your own. It gets the number of classes as
    ``num_classes``, ``n_classes``, ``classes`` or ``out_features``; without such a parameter, its last linear layer is
    replaced."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """own: further arguments of ``_target_``, by name."""
    stages: list[str] = field(default_factory=list)
    """own: paths of the modules that run one after the other, for freezing. Empty: found automatically."""
    weights: str | None = None
    """``null`` for random weights; ``DEFAULT`` for those published by torchvision or timm; else the path of a state dict, of a
    folder with a state dict named after the network, or of a run (its folder, or a checkpoint in it). The head is left out if
    it was made for other classes."""
    image_size: Annotated[Any, Range(1, 4096)] = None
    """Height and width of the input, in pixels: one number for both, or ``[HEIGHT, WIDTH]``. ``null``: that of the weights."""
    resize: Annotated[str | None, Literal["stretch", "crop", "pad"]] = None
    """``stretch`` ignores the aspect ratio; ``crop`` resizes the shorter side and crops the centre; ``pad`` keeps the whole
    image, with a border of the mean colour (which ``normalize`` maps to zero). ``null``: that of the weights."""
    resize_size: Annotated[int | None, Range(1, 8192)] = None
    """Length in pixels that the shorter side (with ``stretch``, both) is resized to before the centre is cropped; if height and
    width differ, this is the shorter one, and the other is in proportion. ``null``: in the same proportion to the size as with
    the weights, else 8/7 of it; with ``stretch``, nothing is cropped."""
    interpolation: Annotated[str | None, Literal["bilinear", "bicubic"]] = None
    """``bilinear`` or ``bicubic``, both antialiased. ``null``: that of the weights."""
    normalize: Any = None
    """``unit`` scales to 0..1; ``centered`` to -1..1; ``imagenet`` subtracts ImageNet's mean and divides by its standard
    deviation; ``{mean: [R, G, B], std: [R, G, B]}`` likewise. ``null``: that of the weights."""
    head: Annotated[str, Literal["softmax", "sigmoid"]] = "softmax"
    """``softmax`` has one output per class; ``sigmoid`` one output for two classes (binary cross-entropy)."""
    dense: list[int] = field(default_factory=list)
    """Widths of dense layers between the features and the output."""
    dropout: Annotated[float, Range(0.0, 0.99)] = 0.0
    """Probability of dropout before each dense layer and the output."""
    channels: list[int] = field(default_factory=list)
    """convnet: output channels of each convolution block."""
    padding: Annotated[str, Literal["same", "valid"]] = "same"
    """convnet: with ``same``, a convolution keeps the size; ``valid`` doesn't pad."""
    batch_norm: bool = False
    """convnet: BatchNorm after each convolution."""
    conv_dropout: Annotated[float, Range(0.0, 0.99)] = 0.0
    """convnet: probability of channel dropout after each pooling."""
    pool: Annotated[str, Literal["flatten", "average"]] = "flatten"
    """convnet: ``flatten`` the last feature map, or ``average`` it."""
    last_blocks_from: str | None = None
    """Name of the stage where ``last_blocks`` begin. ``null`` takes the last quarter of the stages."""


@dataclass
class PhaseConfig:
    """A phase of training: a number of epochs in which one part of the network trains."""

    train_from: str = "all"
    """``all``, ``head``, ``last_blocks``, or the name of the first stage that trains."""
    epochs: int | None = None
    """Length in epochs; ``null`` for the last phase means the rest of ``trainer.max_epochs``."""
    share: float | None = None
    """Length as a share of ``trainer.max_epochs``, rounded up, instead of ``epochs``."""
    solve: bool = False
    """``train_from=head``: compute the optimum of the head on cached features (logistic regression) in one epoch, instead of
    approaching it by gradient steps. A head of more than one linear layer trains for ``epochs`` or ``share``; without these,
    it is an error."""
    fresh_head: bool = False
    """Give the head random weights again when this phase begins. A solved head is tuned to frozen layers: where its weights are
    large, other layers can't move without the loss growing a hundredfold."""
    learning_rate: float | None = None
    """Learning rate of this phase; ``null`` takes the optimizer's."""
    backbone_factor: float = 1.0
    """Discriminative learning rates: stages below the head train at this multiple of the learning rate."""


@dataclass
class FinetuneConfig:
    """Fine-tuning: which layers train when, and whether the frozen ones are computed only once."""

    name: str = "scratch"
    """Name of the recipe in tables."""
    phases: list[PhaseConfig] = field(default_factory=lambda: [PhaseConfig()])
    """Phases, in order."""
    without_weights: list[PhaseConfig] = field(default_factory=list)
    """Phases that replace ``phases`` if ``model.weights`` is ``null``; empty: nothing is replaced."""
    cache: bool = True
    """Compute the outputs of the frozen stages once and store them; false recomputes them at each step."""
    cache_dir: str | None = None
    """Folder of these features. ``null``: beside the decoded images, in ``cache_dir``."""
    views: Annotated[int | None, Range(0, 1000)] = None
    """With augmentation: number of augmented views per image for the frozen layers; each epoch uses the next one. ``null``: one
    per epoch of the phase, at most 10 (with a single view, the image would be the same in all epochs), and 4 where the head is
    solved; 0: no augmentation."""
    features_precision: Annotated[str, Literal["auto", "int8"]] = "auto"
    """Precision of the frozen layers' outputs that training uses: ``auto``, that of the network; ``int8``, faster on processors
    with VNNI, refused unless a paired test on the validation images excludes that heads lose more than one percentage point by
    it. Validation, test and prediction don't use int8."""
    enough: Annotated[float | None, Range(0.0, 1.0)] = None
    """Where the first phase solves a linear head: the accuracy of such a head, each training image left out, from which on that
    phase is all there is, with ``trainer.max_epochs=null``. ``null``: nothing is left out, and ``phases`` train."""
    otherwise: list[PhaseConfig] = field(default_factory=list)
    """The phases where that head is less accurate than ``enough``, and wrong on 20 images at least; empty: ``phases``."""
    requires_weights: bool = False
    """Whether the recipe makes no sense for a network with random weights."""
    samples: Annotated[int | None, Range(1, 10**12)] = None
    """With ``trainer.max_epochs=null``: number of images that training processes, counting repetitions. The number of epochs is
    this divided by the number of images, at least 3 and at most ``most_epochs``."""
    most_epochs: Annotated[int, Range(1, 10**6)] = 12
    """With ``trainer.max_epochs=null``: maximum number of epochs."""


@dataclass
class LossConfig:
    """The training loss."""

    name: str = "cross_entropy"
    """Name in tables."""
    _target_: str | None = None
    """Dotted name of a class of your own: a module that takes logits float[batch, class] and targets int64[batch] and returns
    the mean loss, or the loss per image. It gets ``num_classes``, ``weight`` or ``class_weights``, and ``label_smoothing`` if
    its signature has parameters of these names."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Further arguments of ``_target_``, by name."""
    label_smoothing: Annotated[float, Range(0.0, 0.99)] = 0.0
    """Share of the target that is spread over all classes."""
    class_weights: Annotated[str | None, Literal["balanced"]] = None
    """``balanced`` weights classes by their inverse frequency in train; ``null``: all classes have the same weight."""
    focal_gamma: Annotated[float, Range(0.0, 100.0)] = 0.0
    """Exponent of the focal loss (Lin et al. 2017); 0 is plain cross-entropy."""


@dataclass
class TrainerConfig:
    """The training loop, and how it uses the machine."""

    name: str = "cpu"
    """Name of the option."""
    accelerator: Annotated[str, Literal["cpu", "gpu"]] = "cpu"
    """``cpu`` or ``gpu`` (one GPU per training process)."""
    launcher: Annotated[str, Literal["none", "processes", "ray"]] = "none"
    """Where training runs: ``none`` (in this process), in several ``processes`` of this machine, or in workers of ``ray``."""
    num_workers: Annotated[int, Range(1, 10**5)] = 1
    """Number of training processes; each takes its share of every batch. With ``launcher=ray``, a process has a thread per CPU
    that it gets."""
    max_failures: Annotated[int, Range(0, 10**6)] = 3
    """``launcher=ray``: how often lost training processes are restarted from the last complete epoch."""
    max_epochs: Annotated[int | None, Range(1, 10**6)] = 10
    """Number of epochs in all phases together. ``null``: depends on ``finetune.samples`` and the number of images."""
    batch_size: Annotated[int, Range(1, 10**6)] = 32
    """Images per step, over all training processes."""
    precision: Annotated[str, Literal["auto", "32", "bf16", "16"]] = "auto"
    """``auto`` takes the fastest that keeps the loss; else ``32`` or ``bf16``, on a GPU also ``16``."""
    channels_last: Annotated[str, Literal["auto", "true", "false"]] = "auto"
    """Whether images and convolutions have the memory format channels last; ``auto`` takes the faster one."""
    threads: Annotated[int | None, Range(1, 4096)] = None
    """Threads of torch's operators, over all training processes of this machine; ``null`` takes every core that may be used."""
    monitor: str = "val/loss"
    """Validation metric that chooses the checkpoint."""
    monitor_mode: Annotated[str, Literal["auto", "min", "max"]] = "auto"
    """Whether a lower (``min``) or a higher (``max``) value of the metric is better; ``auto`` knows it, except of your own."""
    patience: Annotated[int | None, Range(1, 10**6)] = None
    """Stop after this many epochs without improvement; ``null`` never stops early."""
    max_minutes: Annotated[float | None, Range(1e-3, 10**6)] = None
    """Maximum duration of training in minutes, over all sessions of a run: it stops before an epoch that would exceed it, or
    within one that takes longer than expected. Schedules as long as the training are shortened, so that the learning rates come
    down in time. Decoding, testing and the report aren't counted. ``null``: no limit."""
    gradient_clip: Annotated[float | None, Range(1e-9, 1e9)] = None
    """Maximum norm of the gradient; ``null`` doesn't clip."""
    averaging: Annotated[str, Literal["none", "ema", "swa"]] = "none"
    """The weights that are validated and saved: ``none``, those of each epoch; ``ema``, their exponential moving average over
    steps; ``swa``, their mean over the ends of epochs. Each phase begins a new average."""
    averaging_start: Annotated[int, Range(0, 10**6)] = 0
    """First epoch that is averaged, counted from 0; the epochs before are validated without averaging."""
    ema_decay: Annotated[float, Range(0.0, 1.0)] = 0.99
    """Decay of the exponential moving average per step."""
    limit_batches: Annotated[int | None, Range(1, 10**9)] = None
    """Maximum number of batches per epoch, for debugging; ``null`` takes all."""
    progress: Annotated[str, Literal["auto", "lines", "off"]] = "auto"
    """``auto`` shows bars on a terminal and prints lines elsewhere; ``lines``; ``off``."""


@dataclass
class LoggerConfig:
    """Where metrics are logged besides the run folder."""

    name: Annotated[str, Literal["wandb", "tensorboard", "csv", "none"]] = "wandb"
    """``wandb``, ``tensorboard``, ``csv`` (the run folder's own history alone) or ``none``."""
    also: list[Any] = field(default_factory=list)
    """Further loggers at the same time: ``tensorboard``, or ``_target_`` nodes of Lightning's loggers and your own. Those with
    a ``save_dir`` write into the run folder."""
    project: str = "raylight"
    """W&B project."""
    entity: str | None = None
    """W&B entity; ``null`` takes the account's default."""
    mode: Annotated[str, Literal["offline", "online", "disabled"]] = "offline"
    """``offline``, ``online`` or ``disabled``; WANDB_MODE in the environment has precedence."""
    group: str | None = None
    """W&B group; sweeps set it to the name of the sweep."""
    tags: list[str] = field(default_factory=list)
    """W&B tags."""
    artifacts: bool = True
    """Log the best checkpoint and the split as artifacts."""


@dataclass
class DecisionConfig:
    """From probabilities to decisions; everything is chosen on validation only."""

    threshold: str = "0.5"
    """Threshold of the positive class, for two classes: a number, ``youden``, ``f1``, ``cost``, or a minimum such as
    ``recall>=0.95`` (also of precision or specificity)."""
    cost_miss: Annotated[float, Range(0.0, 1e12)] = 1.0
    """``threshold=cost``: cost of a false negative."""
    cost_false_alarm: Annotated[float, Range(0.0, 1e12)] = 1.0
    """``threshold=cost``: cost of a false positive."""
    calibrate: bool = True
    """Whether to fit a temperature on validation."""
    abstain: Annotated[float | None, Range(0.5, 0.9999)] = None
    """Abstain on uncertain images, so that at least this share of the answers is right, with 95 % confidence by validation;
    0.99 needs at least 299 validation images. ``null`` never abstains."""
    unknown: Annotated[float | None, Range(0.001, 0.5)] = None
    """Give no class to images that are unlike all training images; this affects at most this share of images like those of
    validation. ``null``: every image gets a class."""


@dataclass
class ReportConfig:
    """The report of a run, and further evaluations for it."""

    enabled: bool = True
    """Whether to write ``report.html``."""
    plots: bool = True
    """Whether to draw ``plots/*.png``."""
    vector: Annotated[str, Literal["none", "pdf", "svg"]] = "none"
    """Format in which to write the figures as vector graphics, too."""
    gradcam: bool = True
    """Show Grad-CAM heat maps of the example images in the report."""
    neighbours: bool = True
    """Show the most similar training images, by the network's features, beside each error; not with ``data.feed=stream``."""
    shortcuts: bool = False
    """Test whether the network relies on shortcuts, with images without their centre, without detail, ...; costs some
    predictions."""
    subgroups: dict[str, list[Any]] = field(default_factory=dict)
    """Subgroups of the test images to evaluate separately: further columns of the data, ``mode``, ``format`` or DICOM keywords,
    each with the edges of ranges; without edges, each value is a subgroup:
    ``+report.subgroups.sex=[] +report.subgroups.age=[40,60]``"""


@dataclass
class RunConfig:
    """All settings of a run."""

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
    """Partial ``_target_`` node of a ``torch.optim.lr_scheduler`` class, stepped once per epoch; ``null``: constant."""
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    metrics: dict[str, Any] = field(default_factory=dict)
    """Further metrics, by name: ``_target_`` nodes of torchmetrics' classes and your own, which take probabilities float[image,
    class] and classes int[image]. ``+metrics.f2._target_=torchmetrics.classification.BinaryFBetaScore +metrics.f2.beta=2.0``"""
    callbacks: list[Any] = field(default_factory=list)
    """``_target_`` nodes of further callbacks, Lightning's and your own."""
    decision: DecisionConfig = field(default_factory=DecisionConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    seed: Annotated[int, Range(0, 2**32 - 1)] = 1
    """Seed of weights, order and augmentation; with ``data.split_seed=null``, also of the split."""
    cache_dir: str = "${oc.env:RAYLIGHT_CACHE,${oc.env:HOME,.}/.cache/raylight}"
    """Folder of decoded images, features and measured settings, shared by all runs."""
    allowed_targets: list[str] = field(default_factory=list)
    """Trusted packages that ``_target_`` may name, besides raylight, torch, torchvision, torchmetrics and pytorch_lightning."""
    notes: str | None = None
    """Free text, shown in the report."""
    run: str | None = None
    """Folder of an interrupted run to resume, in place and with its own settings; no other setting can be given with it."""
    resume: str | None = None
    """Folder of a sweep to resume; its finished jobs aren't run again. Without other settings, the sweep's command is used."""

    @property
    def split_seed(self) -> int:
        """The seed of the split."""
        return self.seed if self.data.split_seed is None else self.data.split_seed
