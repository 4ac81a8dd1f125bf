"""Finding a model: from a name in a suite to a folder whose files are checked without loading them."""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunebench import hub
from prunebench.errors import DeviceError, ModelError, suggest
from prunebench.files import with_home
from prunebench.models.architecture import quantization
from prunebench.models.config import check_config, read_json
from prunebench.models.folders import has_head, other_format, refuse_wrapped_names
from prunebench.models.tokenizer_files import chat_template_digest, refuse_tokenizer_code, tokenizer_files
from prunebench.quiet import quiet_hub_libraries

BUILTIN = "builtin/"
DEVICES = ("auto", "cpu", "cuda", "disk")
DTYPES = ("auto", "float32", "bfloat16", "float16")

TOKENIZER_PATTERNS = ("*.json", "*.model", "*.txt", "*.jinja")  # of the files that are fetched
MODEL_PATTERNS = (*TOKENIZER_PATTERNS, "*.safetensors")

SUFFIXES = (".jinja", ".json", ".model", ".py", ".safetensors", ".txt")  # of the files that make a model


@dataclass(frozen=True)
class ModelSource:
    """A model that was found and whose files are complete.

    Args:
        source: as the suite names it.
        folder: the folder of its files.
        revision: the hub's commit; None for a local folder or a builtin.
        digest: SHA-256 (hex) over names and bytes of configuration, tokenizer and weights, and of code that may run.
        trust_remote_code: whether code that the model brings may run.
        chat_template: digest of the tokenizer's chat templates, which ``digest`` does not cover; None for none.
        has_head: whether one of the weights may be a language-modelling head, by its name.
        tokenizer_folder: of another tokenizer than the model's own.
        attn_implementation: transformers' name of how attention is computed; None for its default.
    """

    source: str
    folder: Path
    revision: str | None
    digest: str
    trust_remote_code: bool = False
    chat_template: str | None = None
    has_head: bool = True
    tokenizer_folder: Path | None = None
    attn_implementation: str | None = None


def find_model(
    source: str,
    *,
    trust_remote_code: bool = False,
    tokenizer: str | None = None,
    attn_implementation: str | None = None,
) -> ModelSource:
    """Find a model, download it where it is on the hub, and check its files without loading them.

    Args:
        source: ``builtin/<name>``, a local folder, or a hub id ``owner/name[@revision]``.
        trust_remote_code: let code that the model brings run; without it such a model is refused.
        tokenizer: where another tokenizer is, named as a model is; its files stand in the digest for the model's own.
        attn_implementation: as in ``ModelSource``.

    Returns:
        The checked model.

    Raises:
        ModelError: there is none of that name, it is out of reach, incomplete or unreadable.
    """
    folder, revision = _folder_of(source, trust_remote_code)
    if not source.startswith(BUILTIN):  # whose configurations tests check: to read them here imports transformers
        check_config(source, folder, trust_remote_code)
    weights, names = _check_weights(source, folder)
    tokens_folder = folder
    if tokenizer is not None:
        tokens_folder = _folder_of(tokenizer, trust_remote_code, TOKENIZER_PATTERNS)[0]
        refuse_tokenizer_code(tokenizer, tokens_folder, trust_remote_code)
    files = [folder / "config.json", *tokenizer_files(tokenizer or source, tokens_folder), *weights]
    files += folder.glob("generation_config.json")  # its settings decide on what the model writes
    for place in {folder, tokens_folder} if trust_remote_code else ():
        files += place.glob("*.py")
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda file: (file.name, file != folder / file.name)):
        with file.open("rb") as content:
            digest.update(f"{file.name}\0{hashlib.file_digest(content, 'sha256').hexdigest()}\n".encode())
    return ModelSource(
        source,
        folder,
        revision,
        digest.hexdigest(),
        trust_remote_code,
        chat_template=chat_template_digest(source, tokens_folder),
        has_head=has_head(names),
        tokenizer_folder=None if tokenizer is None else tokens_folder,
        attn_implementation=attn_implementation,
    )


def find_folder(source: str) -> Path:
    """Where the files of a model are that was found before; they are not checked again."""
    return _folder_of(source, False)[0]


def _folder_of(source: str, with_code: bool, files: tuple[str, ...] = MODEL_PATTERNS) -> tuple[Path, str | None]:
    """Folder and commit of a model or tokenizer: a builtin, a folder or on the hub."""
    folder, revision = with_home(source), None
    if source.startswith(BUILTIN):
        from prunebench.tinyworld import MODELS, model_folder

        name = source.removeprefix(BUILTIN)
        if name not in MODELS:
            raise ModelError(f"unknown model {source!r}: {suggest(source, [f'{BUILTIN}{known}' for known in MODELS])}")
        folder = model_folder(name)
    elif not folder.is_dir():
        if folder.is_absolute() or source.startswith((".", "~")) or (source.count("/") > 1 and "@" not in source):
            raise ModelError(f"model {source} is not a folder: check the path, or use a hub id or a builtin")
        folder, revision = _snapshot(source, with_code, files)
    return folder, revision


def _snapshot(source: str, with_code: bool, patterns: tuple[str, ...]) -> tuple[Path, str]:
    """Folder and commit of a model on the hub; from the local cache alone where the hub is out of reach."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    repo, _, requested = source.partition("@")
    files = [*patterns, *(["*.py"] if with_code else [])]
    try:
        try:
            cached = snapshot_download(repo, revision=requested or None, allow_patterns=files, local_files_only=True)
        except LocalEntryNotFoundError:
            cached = None
        if hub.is_reachable():
            with quiet_hub_libraries():
                # By its name and not by its commit: so the cache knows later, offline, what the name stood for.
                cached = snapshot_download(repo, revision=requested or None, allow_patterns=files)
    except HFValidationError as error:
        raise ModelError(f"model {source!r} is neither a folder nor a hub id (owner/name[@revision])") from error
    except Exception as error:  # The HTTP library under huggingface_hub lets its own kinds through as well.
        raise ModelError(f"model {source} cannot be fetched from the hub: {hub.failure(repo, error)}") from error
    if cached is None:
        raise ModelError(f"model {source} is no local folder, and {hub.unreachable_message()}")
    return Path(cached), Path(cached).name


def _check_weights(source: str, folder: Path) -> tuple[list[Path], list[str]]:
    """The safetensors files of a folder, each as long as its header says, and the names of the weights."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        weight_map = read_json(source, index).get("weight_map")
        shards = {str(shard) for shard in weight_map.values()} if isinstance(weight_map, dict) else set()
        if foreign := sorted(s for s in shards if Path(s).name != s or "\0" in s or not s.endswith(".safetensors")):
            raise ModelError(
                f"model {source}: {index.name} names {foreign[0]!r}, which is no .safetensors file of its folder"
            )
        files = [folder / shard for shard in sorted(shards)]
        if missing := [file.name for file in files if not file.is_file()]:
            raise ModelError(f"model {source} is incomplete: {folder} lacks {', '.join(missing)}; fetch it again")
    else:
        files = [file for file in [folder / "model.safetensors"] if file.is_file()]
    if not files:
        if other := other_format(folder):
            raise ModelError(f"model {source} {other}")
        raise ModelError(f"model {source} has no weights: {folder} holds no model.safetensors")
    names: list[str] = []
    for file in files:
        expected, own_names = _header(source, file)
        names += own_names
        if (actual := file.stat().st_size) != expected:
            raise ModelError(
                f"model {source}: {file.name} has {actual} bytes, its header says {expected}: fetch it again"
            )
    refuse_wrapped_names(source, names)
    return files, names


def _header(source: str, file: Path) -> tuple[int, list[str]]:
    """Bytes that a safetensors file should have (8 for the header's length, the header, the tensors), and its names."""
    with file.open("rb") as content:
        length = int.from_bytes(content.read(8), "little")
        try:
            header: dict[str, Any] = json.loads(content.read(length)) if length < file.stat().st_size else {"": {}}
            ends = [int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, KeyError, IndexError, AttributeError, TypeError, RecursionError) as error:
            raise ModelError(f"model {source}: {file.name} is not a whole safetensors file: fetch it again") from error
    return 8 + length + max(ends, default=0), [name for name in header if name != "__metadata__"]


def weight_bytes(source: ModelSource, dtype: str) -> int:
    """Bytes of a model's parameters in the dtype it is loaded in, from the headers of its files.

    Args:
        source: from ``find_model``.
        dtype: "float32", "bfloat16", "float16" or "auto".
    """
    return bytes_in(source.folder, dtype)


def bytes_in(folder: Path, dtype: str) -> int:
    """The same of a folder whose files nobody has hashed."""
    total = 0
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as content:
            header = json.loads(content.read(int.from_bytes(content.read(8), "little")))
        header.pop("__metadata__", None)
        size = {"float32": 4, "bfloat16": 2, "float16": 2}.get(dtype)
        for entry in header.values():
            begin, end = entry["data_offsets"]
            total += end - begin if size is None else math.prod(entry["shape"]) * size
    return total


def weight_names(source: ModelSource) -> list[str]:
    """Names of all tensors in a model's files, from their headers."""
    found: list[str] = []
    for file in sorted(source.folder.glob("*.safetensors")):
        with file.open("rb") as content:
            header = json.loads(content.read(int.from_bytes(content.read(8), "little")))
        found += [name for name in header if name != "__metadata__"]
    return found


def pick_device(requested: str) -> str:
    """The device to run on: "cpu", "cuda", or "disk" for the CPU with the decoder blocks on disk.

    Args:
        requested: one of those, or "auto" for cuda where it is available, else cpu.

    Raises:
        DeviceError: this machine has no such device.
    """
    import torch

    if requested not in DEVICES:
        raise DeviceError(f"unknown device {requested!r}: {suggest(requested, DEVICES)}")
    available = torch.cuda.is_available()
    if requested == "cuda" and not available:
        raise DeviceError("device 'cuda' was asked for, but torch finds none here: use 'cpu' or 'auto'")
    if requested == "auto":
        return "cuda" if available else "cpu"
    return requested


def pick_dtype(requested: str | None, device: str) -> str:
    """The dtype to load a model in: "float32", "bfloat16", "float16", or "auto" for that of the checkpoint.

    Args:
        requested: one of those; None for auto on CUDA and float32 on a CPU: many have no fast bfloat16 products.
        device: "cpu", "cuda" or "disk".

    Raises:
        ModelError: an unknown dtype.
    """
    if requested is None:
        return "auto" if device == "cuda" else "float32"
    if requested not in DTYPES:
        raise ModelError(f"unknown dtype {requested!r}: {suggest(requested, DTYPES)}")
    return requested


def files_state(source: ModelSource) -> tuple[tuple[str, int, int, int, int], ...]:
    """What the system says of a model's files: another value where one was written to, however it was dated back."""
    folders = [source.folder, *([source.tokenizer_folder] if source.tokenizer_folder else [])]
    files = [path for folder in folders for path in sorted(folder.iterdir()) if path.suffix in SUFFIXES]
    states = [(path.name, path.stat()) for path in files]
    return tuple((name, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for name, s in states)


def is_quantized(source: ModelSource) -> bool:
    """Whether a checkpoint holds quantised weights, which transformers turns back into numbers when it loads them."""
    return quantization(read_json(source.source, source.folder / "config.json")) is not None


def context_length(source: ModelSource) -> int | None:
    """The longest sequence, in tokens, that a model is made for; None where its configuration does not say."""
    config = read_json(source.source, source.folder / "config.json")
    text = config.get("text_config")  # of a model of images and text
    config = {**text, **config} if isinstance(text, dict) else config
    length = next((config[key] for key in ("max_position_embeddings", "n_positions") if key in config), None)
    return int(length) if isinstance(length, int) else None
