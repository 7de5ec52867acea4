"""The API process: moto behind our layer, the reconcile loop, the metrics, the package cache."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from labtool.checked import encoded
from labtool.config import LocalSettings
from labtool.errors import LocalCloudError
from labtool.files import write_bytes
from labtool.localcloud import engine as engines
from labtool.localcloud import image, inherit, network
from labtool.localcloud.layout import Layout
from labtool.localcloud.lxcfs import Lxcfs
from labtool.localcloud.lxcfs import available as lxcfs_available

log = logging.getLogger(__name__)

# Before moto is imported: no images, types or keys but those that exist here.
_MOTO = {"MOTO_EC2_LOAD_DEFAULT_AMIS": "false", "MOTO_DISABLE_GLOBAL_CORS": "true"}
_LXCFS_CHECK_S = 1.0


def serve(settings: LocalSettings) -> None:
    """Run the local cloud until SIGTERM; hosts stay when it ends."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    os.environ.update(_MOTO)
    os.umask(0o022)
    began = time.time()
    layout = Layout(settings)
    layout.folder.mkdir(parents=True, exist_ok=True)
    write_bytes(layout.settings_file, encoded(settings), 0o644)
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    cloud = Cloud(settings, layout, began)
    cloud.start()
    # Written last: a pid file means that everything is there.
    write_bytes(layout.pid, f"{os.getpid()}\n".encode(), 0o644)
    log.info("ready after %.1f s", time.time() - began)
    stop.wait()
    log.info("stopping; hosts stay")
    cloud.stop()
    layout.pid.unlink(missing_ok=True)
    logging.shutdown()
    os._exit(0)  # everything is saved; taking moto's hundred thousand objects apart would cost two seconds


class Cloud:
    """The parts of one local cloud, put together."""

    def __init__(self, settings: LocalSettings, layout: Layout, began: float) -> None:
        self._settings, self._layout, self._began = settings, layout, began
        self._engine = engines.find(settings.name)
        self._recipe = image.recipe(settings)
        if not self._engine.image_exists(self._recipe.tag):
            raise LocalCloudError("the host image is not built", "run `labtool cloud start`")
        self._listeners = [_listen("127.0.0.1", settings.port)]
        self._lxcfs = Lxcfs(layout.proc) if lxcfs_available() else None
        self._lxcfs_pid = 0
        self._stop = threading.Event()
        self._servers: list[Any] = []

    def start(self) -> None:
        """Make the network and start every part."""
        from labtool.localcloud.api import Api
        from labtool.localcloud.cloudwatch.api import CloudWatch
        from labtool.localcloud.cloudwatch.store import Store
        from labtool.localcloud.ec2_backend import ACCOUNT, REGION, Template
        from labtool.localcloud.firewall import Firewall
        from labtool.localcloud.metadata import Metadata, Tokens, token_key
        from labtool.localcloud.metadata_server import MetadataServer
        from labtool.localcloud.metrics import Publisher
        from labtool.localcloud.packages import PackageCache, seed_line
        from labtool.localcloud.reconcile import Facts, Reconciler
        from labtool.localcloud.role_credentials import RoleCredentials

        settings, layout = self._settings, self._layout
        system = self._recipe.distribution
        planned = network.plan(settings)
        store = Store(layout.metrics)
        template = Template(subnet=planned.subnet, image_name=system.image_name, login=system.login)
        self._api = Api(layout, template, CloudWatch(store), system.public_parameter)
        credentials = RoleCredentials(ACCOUNT, REGION)
        self._api.expired = credentials.expired
        tokens = Tokens(token_key(layout.metadata_key))
        self._metadata = MetadataServer(Metadata(self._api.ec2, self._api.lock, tokens, credentials), planned.gateway)
        net = network.up(settings, self._engine, self._metadata.port)
        if self._lxcfs is not None:
            self._lxcfs_pid = self._lxcfs.start()
        self._firewall = Firewall(net, self._api.ec2, self._api.lock)
        self._firewall.start()
        self._api.changed = self._firewall.refresh
        sources = inherit.source_hosts(self._recipe.files)
        facts = Facts(
            image=self._recipe.tag,
            network=net.name,
            proc=layout.proc if self._lxcfs is not None else None,
            apt_cache=seed_line(net.gateway, sources),
            endpoint=f"http://{net.gateway}:{settings.port}",
            guard=partial(self._keep_rules, net),
            gate=self._firewall,
        )
        self._reconciler = Reconciler(layout, self._engine, self._api.ec2, self._api.lock, self._api.save, facts)
        self._api.ec2.changed = self._reconciler.wake
        self._api.describe = self.describe
        self._publisher = Publisher(store, self._reconciler.hosts, self._health)
        self._packages = PackageCache(layout.packages, net.gateway, sources, inherit.http_proxy(self._recipe.files))
        self._listeners.append(_listen(net.gateway, settings.port))
        self._metadata.start()
        self._reconciler.start()
        self._publisher.start()
        self._packages.start()
        self._serve_api()
        threading.Thread(target=self._keep_lxcfs, name="lxcfs", daemon=True).start()

    def stop(self) -> None:
        """End every part; hosts, lxcfs and network stay."""
        self._stop.set()
        for server in self._servers:
            server.shutdown()
        self._publisher.stop()
        self._reconciler.stop()
        self._packages.stop()
        self._metadata.stop()
        self._api.save()
        self._api.snapshots.close()

    def describe(self) -> dict[str, Any]:
        """Return what `labtool cloud status` shows."""
        states: dict[str, int] = {}
        with self._api.lock:
            for instance in self._api.ec2.all_instances():
                states[instance.state] = states.get(instance.state, 0) + 1
        return {
            "name": self._settings.name,
            "pid": os.getpid(),
            "port": self._settings.port,
            "subnet": self._settings.subnet,
            "hosts": states,
            "image": self._recipe.tag,
            "default_image": self._recipe.distribution.image_name,
            "state_dir": str(self._layout.folder),
            "disk_bytes": _disk_use(self._layout.folder),
            "started": self._began,
            "lxcfs": self._lxcfs is not None,
            "security_groups": self._firewall.enforced,
            "metrics_bytes": sum(file.stat().st_size for file in self._layout.folder.glob("cloudwatch.sqlite*")),
        }

    def _keep_rules(self, net: network.LabNetwork) -> bool:
        return any([network.keep_rules(net), self._firewall.keep()])

    def _health(self, instance_id: str) -> Any:
        from labtool.localcloud.metrics import Health

        with self._api.lock:
            instance = self._api.ec2.get_instance_by_id(instance_id)
            host = self._api.ec2.hosts.get(instance_id)
            if instance is None or host is None:
                return None
            root = instance.block_device_mapping.get(instance.root_device_name)
            return Health(
                detailed=instance.monitored,
                instance_failed=host.impaired,
                root_volume=root.volume_id if root is not None else "",
            )

    def _serve_api(self) -> None:
        from moto.moto_server.werkzeug_app import MotoRequestHandler
        from werkzeug.serving import make_server

        class Handler(MotoRequestHandler):  # type: ignore[misc]
            protocol_version = "HTTP/1.1"
            # Head and body are two writes: without this the second waits for the first's delayed ACK.
            disable_nagle_algorithm = True

            def log_request(self, *_: Any) -> None:
                pass

        for listener in self._listeners:
            address, port = listener.getsockname()
            server = make_server(address, port, self._api, threaded=True, request_handler=Handler, fd=listener.fileno())
            server.daemon_threads = True
            server.block_on_close = False
            self._servers.append(server)
            threading.Thread(target=server.serve_forever, name=f"api-{address}", daemon=True).start()

    def _keep_lxcfs(self) -> None:
        """Replace lxcfs when it dies, in the hosts that run too."""
        while self._lxcfs is not None and not self._stop.wait(_LXCFS_CHECK_S):
            if Path(f"/proc/{self._lxcfs_pid}").exists() and not _is_zombie(self._lxcfs_pid):
                continue
            log.warning("lxcfs has ended: starting it again")
            try:
                self._lxcfs_pid = self._lxcfs.start()
                self._lxcfs.rebind(host.pid for host in self._reconciler.hosts())
            except (LocalCloudError, OSError):
                log.exception("lxcfs cannot be started")


def _listen(address: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_IP, 15, 1)  # IP_FREEBIND: the bridge comes with the first host
    try:
        listener.bind((address, port))
    except OSError as error:
        raise LocalCloudError(
            f"port {port} of {address} is taken: {error.strerror}",
            f"see who has it with `ss -ltnp 'sport = :{port}'`, or choose another with LABTOOL_LOCAL_PORT",
        ) from None
    listener.listen(128)
    return listener


def _is_zombie(pid: int) -> bool:
    try:
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            return False
        os.waitpid(pid, os.WNOHANG)
    except (OSError, ChildProcessError):
        pass
    return True


def _disk_use(folder: Path) -> int:
    total = 0
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not os.path.ismount(Path(root) / name)]
        for name in names:
            try:
                total += (Path(root) / name).lstat().st_blocks * 512
            except OSError:
                continue
    return total
