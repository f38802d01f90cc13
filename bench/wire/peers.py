"""The servers that are measured: how each is found, which kinds of scenario it can serve, how it is configured and
started. Weir and nginx take the scenario's nginx.conf; the others get a configuration that serves the same bytes.

Kinds: `return` (a short fixed text), `static` (files), `proxy` (to the origin, keep-alive on both sides)."""

import os
import shutil
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PEERS = os.path.join(ROOT, "bench/peers")

HAPROXY = """
global
    nbthread 1
    maxconn 9500
    user root
defaults
    mode http
    timeout client 65s
    timeout server 65s
    timeout connect 5s
    timeout http-keep-alive 65s
frontend f
    bind 127.0.0.1:{port} backlog 4096
    {serve}
{backend}
"""

H2O = """
num-threads: 1
listen: {{host: 127.0.0.1, port: {port}}}
user: root
pid-file: {dir}/server.pid
error-log: {dir}/error.log
http1-request-timeout: 65
max-connections: 20000
hosts:
  default:
    paths:
      /: {{{serve}}}
"""

LIGHTTPD = """
server.document-root = "{files}"
server.bind = "127.0.0.1"
server.port = {port}
server.modules = ({modules})
server.max-connections = 19000
server.max-fds = 20000
server.max-keep-alive-requests = 1000000000
server.listen-backlog = 4096
mimetype.assign = (".html" => "text/html", ".txt" => "text/plain", "" => "application/octet-stream")
{serve}
"""

VARNISH = """
vcl 4.1;
backend origin {{ .host = "127.0.0.1"; .port = "{backend}"; }}
sub vcl_recv {{ {receive} }}
sub vcl_synth {{ set resp.http.Content-Type = "text/plain"; set resp.body = "hello, world" + {{"
"}}; return (deliver); }}
"""

APACHE = """
ServerRoot {dir}
ServerName localhost
PidFile {dir}/server.pid
ErrorLog {dir}/error.log
Listen 127.0.0.1:{port} http
ListenBacklog 4096
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule mime_module {modules}/mod_mime.so
TypesConfig /dev/null
AddType text/html .html
{more}
User www-data
Group www-data
StartServers 1
ServerLimit 1
ThreadsPerChild 128
ThreadLimit 128
MinSpareThreads 1
MaxSpareThreads 128
MaxRequestWorkers 128
AsyncRequestWorkerFactor 300
MaxConnectionsPerChild 0
KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout 65
DocumentRoot {files}
<Directory {files}>
    Require all granted
</Directory>
"""

CADDY = """
{{
    admin off
    auto_https off
    log {{
        level ERROR
    }}
}}
http://:{port} {{
    bind 127.0.0.1
    {serve}
}}
"""


class Peer:
    """One server: `name` in tables, `command(place)` to start it for a place (port, directory, files, …)."""

    def __init__(self, name, kinds, find, command, takes_conf=False, engine=None, but=()):
        self.name, self.kinds, self.find, self.command = name, kinds, find, command
        self.but = but                      # scenarios of its kinds that it cannot serve
        self.takes_conf = takes_conf        # nginx.conf: every scenario, both variants
        self.engine = engine

    def serves(self, scenario, realistic):
        if self.takes_conf:
            return True
        return (not realistic and scenario.kind in self.kinds and scenario.name not in self.but
                and not scenario.own_conf)


def write(place, name, text, **more):
    path = os.path.join(place.directory, name)
    with open(path, "w") as f:
        f.write(text.format(port=place.port, dir=place.directory, files=place.files, backend=place.backend, **more))
    return path


def nginx_like(place):
    path = os.path.join(place.directory, "nginx.conf")
    with open(path, "w") as f:
        f.write(place.conf)
    return [place.binary, "-p", place.directory + "/", "-c", path]


def haproxy(place):
    serve = {"return": 'http-request return status 200 content-type "text/plain" string "hello, world\\n"',
             "proxy": "default_backend origin"}[place.kind]
    backend = f"backend origin\n    server o 127.0.0.1:{place.backend}" if place.kind == "proxy" else ""
    return [place.binary, "-db", "-f", write(place, "haproxy.cfg", HAPROXY.replace("{backend}", "").replace(
        "{serve}", serve) + backend + "\n")]


def h2o(place):
    serve = {"static": f'file.dir: "{place.files}"', "proxy": f'proxy.reverse.url: "http://127.0.0.1:{place.backend}/"'}
    return [place.binary, "-m", "worker", "-c", write(place, "h2o.conf", H2O, serve=serve[place.kind])]


def lighttpd(place):
    proxy = f'proxy.server = ("" => (("host" => "127.0.0.1", "port" => {place.backend})))'
    return [place.binary, "-D", "-f", write(
        place, "lighttpd.conf", LIGHTTPD, modules='"mod_proxy"' if place.kind == "proxy" else "",
        serve=proxy if place.kind == "proxy" else "")]


def varnish(place):
    receive = {"return": "return (synth(200));", "proxy": "return (pass);"}[place.kind]
    return [place.binary, "-F", "-a", f"127.0.0.1:{place.port}", "-n", place.directory, "-f",
            write(place, "default.vcl", VARNISH.replace("{receive}", receive)), "-s", "malloc,64m", "-T", "none"]


def apache(place):
    modules = "/usr/lib/apache2/modules"
    more = ""
    if place.kind == "proxy":
        more = (f"LoadModule proxy_module {modules}/mod_proxy.so\nLoadModule proxy_http_module "
                f"{modules}/mod_proxy_http.so\nProxyPass / http://127.0.0.1:{place.backend}/ max=64")
    return [place.binary, "-D", "FOREGROUND", "-f", write(place, "apache.conf", APACHE, modules=modules, more=more)]


def caddy(place):
    serve = {"return": 'respond "hello, world\n"', "static": f"root * {place.files}\n    file_server",
             "proxy": f"reverse_proxy 127.0.0.1:{place.backend}"}[place.kind]
    return [place.binary, "run", "--adapter", "caddyfile", "--config",
            write(place, "Caddyfile", CADDY, serve=serve)]


def kestrel(place):
    return [place.binary, str(place.port), place.files]


def node(place):
    return [place.binary, os.path.join(PEERS, "node.js"), str(place.port), place.files]


def floor(place):
    return [place.binary, str(place.port), os.path.join(place.directory, "access.log"), place.files]


def on_path(name):
    return lambda options: shutil.which(name) or (f"/usr/sbin/{name}" if os.path.exists(f"/usr/sbin/{name}") else None)


def built_kestrel(options):
    """Published once into artifacts/, where there is an SDK."""
    out = os.path.join(ROOT, "artifacts/bench/kestrel")
    binary = os.path.join(out, "kestrel")
    if not os.path.exists(binary) and shutil.which("dotnet"):
        environment = {k: v for k, v in os.environ.items() if k != "WEIR_FAST"}
        subprocess.run(["dotnet", "publish", os.path.join(PEERS, "kestrel"), "-c", "Release", "-o", out, "--nologo",
                        "-v", "quiet"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return binary if os.path.exists(binary) else None


def compiled(name):
    def find(options):
        path = os.path.join(options.tools, name)
        if not os.path.exists(path):
            built = subprocess.run(["gcc", "-O2", "-o", path, os.path.join(ROOT, "bench/floor", name + ".c")],
                                   stderr=subprocess.DEVNULL) if shutil.which("gcc") else None
            if built is None or built.returncode != 0:
                return None
        return path
    return find


def takes_engine(engine):
    """Weir's binary, if it and this kernel have the engine."""
    def find(options):
        path = os.path.join(options.tools, f"{engine}.conf")
        with open(path, "w") as f:
            f.write(f"error_log stderr; pid {options.tools}/{engine}.pid; events {{ use {engine}; }} http {{ }}\n")
        test = subprocess.run([options.weir_binary, "-t", "-c", path], capture_output=True)
        return options.weir_binary if test.returncode == 0 else None
    return find


ALL = [
    Peer("weir", (), lambda options: options.weir_binary, nginx_like, takes_conf=True, engine="epoll"),
    Peer("weir-uring", (), takes_engine("io_uring"), nginx_like, takes_conf=True, engine="io_uring"),
    Peer("nginx", (), lambda options: options.nginx_binary, nginx_like, takes_conf=True, engine="epoll"),
    Peer("haproxy", ("return", "proxy"), on_path("haproxy"), haproxy),
    Peer("h2o", ("static", "proxy"), on_path("h2o"), h2o),
    Peer("lighttpd", ("static", "proxy"), on_path("lighttpd"), lighttpd),
    Peer("caddy", ("return", "static", "proxy"), on_path("caddy"), caddy),
    Peer("varnish", ("return", "proxy"), on_path("varnishd"), varnish),
    Peer("apache", ("static", "proxy"), on_path("apache2"), apache),
    Peer("kestrel", ("return", "static"), built_kestrel, kestrel),
    Peer("node", ("return", "static"), on_path("node"), node),
    Peer("floor-epoll", ("return", "static"), compiled("floor-epoll"), floor),
    Peer("floor-uring", ("return", "static"), compiled("floor-uring"), floor, but=("static-100k", "static-10m")),
]
