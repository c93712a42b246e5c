"""The images that every full sandbox has: the pause image, and an engine image without an engine in it.

The engine's 6 GB stay on this machine: pods mount the machine's /usr, /lib, /lib64 and the bound /opt/serin directories
read-only at this image's empty mount points.
Callers: `node.image_store`. Not here: the archive format (`archive`), and the recipe that fills /opt/serin/vllm.
"""

from __future__ import annotations

from pathlib import Path

from sandbox.images.archive import Directory, Entry, File, Link, layer, write_image

PAUSE_IMAGE = "serin.dev/pause:1.0.0"
ENGINE_IMAGE = "serin.dev/vllm-cpu:0.32.0"
USER = 2000
_ACCOUNTS = f"""\
root:x:0:0:root:/root:/usr/sbin/nologin
vllm:x:{USER}:{USER}:vllm:/tmp:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
"""
_GROUPS = f"root:x:0:\nvllm:x:{USER}:\nnogroup:x:65534:\n"
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HOME": "/tmp",
    "PATH": "/opt/serin/vllm/bin:/usr/local/bin:/usr/bin:/bin",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    # Several engines share two cores here. By default each would pin its one thread to core 0, and its worker process
    # would spin for a second after every step: one engine at 6 requests/s took a whole core, and a second one was not
    # ready after four minutes. So: no pinning, and the worker inside the engine's process (15 % of a core, 27 s).
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}


def write_pause(pause: Path, path: Path) -> str:
    """Write the pause image around the static binary `pause` and return the image's name."""
    content = layer([File("/pause", pause.read_bytes(), mode=0o755)])
    write_image(path, tag=PAUSE_IMAGE, layers=[content], entrypoint=["/pause"], user="65534:65534")
    return PAUSE_IMAGE


def write_engine(path: Path) -> str:
    """Write the engine image and return its name."""
    folders = (
        "/etc",
        "/lib",
        "/lib64",
        "/opt",
        "/opt/serin",
        "/opt/serin/models",
        "/opt/serin/vllm",
        "/proc",
        "/root",
        "/sys",
        "/usr",
        "/var",
    )
    entries: list[Entry] = [Directory(folder) for folder in folders]
    entries += [
        # The machine's own /bin is a link into /usr as well, and /usr is mounted.
        Link("/bin", "usr/bin"),
        Directory("/tmp", mode=0o1777),
        File("/etc/passwd", _ACCOUNTS.encode()),
        File("/etc/group", _GROUPS.encode()),
        File("/etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files dns\n"),
    ]
    write_image(
        path,
        tag=ENGINE_IMAGE,
        layers=[layer(entries)],
        entrypoint=["/opt/serin/vllm/bin/vllm", "serve"],
        env=_ENVIRONMENT,
        user=f"{USER}:{USER}",
        workdir="/tmp",
    )
    return ENGINE_IMAGE
