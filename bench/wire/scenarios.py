"""The scenarios: for each a configuration, the same for both servers, and what the client asks for.

Each comes bare (one location, no log, one URL, wrk's own headers) and realistic (an access log, 20 locations of which 5
are regular expressions, a browser's twelve headers, many URLs in random order).
"""

BROWSER = [
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Language: en-GB,en;q=0.9,de;q=0.8",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Cache-Control: max-age=0",
    "Referer: http://localhost/start/page.html",
    "Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; consent=yes",
    "Sec-Fetch-Dest: document",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Site: same-origin",
    "Upgrade-Insecure-Requests: 1",
    "DNT: 1",
]

MAIN = """
daemon off;
worker_processes 1;
{user}
pid {dir}/server.pid;
error_log {dir}/error.log error;
worker_rlimit_nofile 20000;
pcre_jit on;
events {{ worker_connections 16384; use {engine}; }}
http {{
    types {{ text/html html; text/plain txt; application/octet-stream bin; }}
    default_type text/plain;
    sendfile on;
    tcp_nopush on;
    keepalive_timeout 65s;
    keepalive_requests 1000000000;
    {temp}
    {log}
    {http}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        server_name localhost;
        root {files};
        {locations}
    }}
    {servers}
}}
"""

# Nineteen locations that the scenarios' requests pass by on their way to the twentieth.
OTHERS = """
        location = /favicon.ico { return 204; }
        location = /robots.txt { return 200 "User-agent: *"; }
        location = /health { return 200 ok; }
        location /admin/ { return 403; }
        location /api/ { return 404; }
        location /api/v1/ { return 404; }
        location /api/v2/ { return 404; }
        location /assets/ { expires 1d; }
        location /downloads/ { limit_rate 1m; }
        location /static/ { expires max; }
        location /images/ { expires 7d; }
        location /docs/ { index index.html; }
        location /old/ { return 301 /new/; }
        location /status { return 200 up; }
        location ~ \\.php$ { return 404; }
        location ~* \\.(jpg|jpeg|png|gif|webp|avif)$ { expires 30d; }
        location ~ ^/user/[0-9]+/profile$ { return 404; }
        location ~ /\\.(git|svn|ht) { return 404; }
        location ~* \\.(woff2?|ttf|eot)$ { expires max; }
"""

CACHE = "open_file_cache max=4000 inactive=600s; open_file_cache_valid 600s;"

# Answers of the origin that are kept: after the first round everything is a hit.
CACHED_HTTP = """upstream origin {{ server 127.0.0.1:{backend}; keepalive 64; }}
    proxy_cache_path {dir}/cache levels=1:2 keys_zone=bench:10m use_temp_path=off;"""
CACHED = """location /f/ { proxy_http_version 1.1; proxy_set_header Connection ""; proxy_pass http://origin;
            proxy_cache bench; proxy_cache_valid 10m; }"""

PROXY_HTTP = "upstream origin {{ server 127.0.0.1:{backend}; keepalive 64; }}"
PROXY = 'location /p/ { proxy_http_version 1.1; proxy_set_header Connection ""; proxy_pass http://origin; }'


class Scenario:
    def __init__(self, name, kind, path, location, http="", target=None, urls=1000, pipeline=1, close=False,
                 connections=64, backend_path=None, beside=None, own_conf=False, headers=(), spread=False, stride=1,
                 host="localhost", without=None):
        self.name = name          # as given on the command line
        self.kind = kind          # what a peer must be able to serve: see peers.py
        self.path = path          # with %d for the number of the URL
        self.location = location
        self.http = http
        self.target = target      # nginx's CPU per request times this is the aim
        self.urls = urls
        self.pipeline = pipeline
        self.close = close
        self.connections = connections
        self.backend_path = backend_path    # where the origin itself has what `path` asks for
        self.beside = beside      # (clients, path): slow readers of that path during the run
        self.own_conf = own_conf  # needs more of a configuration than the kind says: Weir and nginx only
        self.headers = headers    # of every request, also the bare ones
        self.spread = spread      # all URLs are asked for, also bare
        self.stride = stride      # the number in the URL is its index times this
        self.host = host
        self.without = without    # a header line that a browser sends and these clients do not

    @property
    def needs_backend(self):
        return "{backend}" in self.http

    def url(self, index):
        return self.path % (index * self.stride) if "%d" in self.path else self.path

    def variety(self, realistic):
        return self.urls if realistic or self.spread else 1

    def lines(self, realistic):
        """The header lines after Host."""
        browser = [line for line in BROWSER if line != self.without] if realistic else []
        return [*self.headers, *browser, *(["Connection: close"] if self.close else [])]

    @property
    def open_loop(self):
        return self.pipeline == 1 and not self.close


RETURN = 'location /r/ { return 200 "hello, world\\n"; }'

ALL = [
    Scenario("return", "return", "/r/%d", RETURN, target=0.78),
    Scenario("return-1", "return", "/r/%d", RETURN, connections=1),
    Scenario("return-512", "return", "/r/%d", RETURN, connections=512),
    Scenario("return-10k", "return", "/r/%d", RETURN, connections=10000),
    Scenario("static-1k", "static", "/f/%d.html", "location /f/ { }", http=CACHE, target=0.60),
    Scenario("static-1k-nocache", "static", "/f/%d.html", "location /f/ { }", target=0.85, own_conf=True),
    Scenario("static-100k", "static", "/b/%d.bin", "location /b/ { }", http=CACHE, urls=100, target=0.55),
    Scenario("static-10m", "static", "/l/%d.bin", "location /l/ { }", http=CACHE, urls=4, connections=16),
    Scenario("proxy", "proxy", "/p/%d", PROXY, http=PROXY_HTTP, target=0.85),
    Scenario("proxy-100k", "proxy", "/b/%d.bin", PROXY.replace("/p/", "/b/"), http=PROXY_HTTP, urls=100),
    Scenario("proxy-stream", "proxy", "/s/%d.html", PROXY.replace("/p/", "/s/"), http=PROXY_HTTP, urls=8,
             connections=16),
    # The line asks for a validation (RFC 9111, 5.2.1.1), which Weir does and nginx does not.
    Scenario("cache-hit", "proxy", "/f/%d.html", CACHED, http=CACHED_HTTP, target=0.60, own_conf=True,
             without="Cache-Control: max-age=0"),
    Scenario("pipelined16", "return", "/r/%d", RETURN, target=0.15, pipeline=16),
    Scenario("short-lived", "static", "/f/%d.html", "location /f/ { }", http=CACHE, close=True, target=0.92),
    Scenario("slow-clients", "return", "/r/%d", RETURN + " location /l/ { }", beside=(200, "/l/0.bin"), own_conf=True),
    Scenario("slow-upstream", "proxy", "/p/%d", PROXY + PROXY.replace("/p/", "/slow/"), http=PROXY_HTTP,
             beside=(200, "/slow/0.bin"), own_conf=True),
]


class Growth:
    """CPU per request against the number of something; at every size the same request."""

    def __init__(self, name, what, sizes, location=RETURN, http="", servers="", idle=False, host="localhost"):
        self.name, self.what, self.sizes, self.idle = name, what, sizes, idle
        self._location, self._http, self._servers, self._host = location, http, servers, host

    def many(self, text, size):
        return "\n".join(text.replace("%n", str(i)) for i in range(size)) if "%n" in text else text

    def location(self, size):
        return self.many(self._location, size) + ("" if self._location == RETURN else "\n" + RETURN)

    def http(self, size, backend):
        return self._http.replace("%peers", " ".join(
            f"server 127.0.0.1:{backend} weight={1 + i % 3};" for i in range(size))) if self._http else ""

    def servers(self, size, port):
        return self.many(self._servers.replace("%port", str(port)), size - 1) if self._servers else ""

    def host(self, size):
        return self._host.replace("%n", str(max(0, size - 2))) if size > 1 else "localhost"

    @property
    def path(self):
        return "/p/0" if self._http else "/r/0"


GROWTH = [
    Growth("growth-idle", "idle connections", (1, 10, 100, 1000, 10000), idle=True),
    Growth("growth-servers", "server blocks", (1, 10, 100, 1000, 10000), host="s%n.example",
           servers='server { listen 127.0.0.1:%port; server_name s%n.example; ' + RETURN + " }"),
    Growth("growth-regex", "regex locations before the one that matches", (1, 10, 100, 1000),
           location="location ~ ^/x%n/[0-9]+$ { return 404; }"),
    Growth("growth-peers", "upstream peers", (1, 10, 100, 1000),
           location=PROXY, http="upstream origin { %peers keepalive 64; }"),
]


# A packaged nginx was built with absolute paths; Weir's lie below the prefix, as a plain build's do.
TEMP = "".join(f"{name}_temp_path {{dir}}/{name}; " for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))


def temp(binary, directory):
    return TEMP.format(dir=directory) if binary.endswith("nginx") else ""


def configuration(scenario, realistic, port, directory, files, backend, engine, user, binary):
    locations = scenario.location + (OTHERS if realistic else "")
    return MAIN.format(
        user=user, dir=directory, engine=engine, port=port, files=files, locations=locations, servers="",
        temp=temp(binary, directory),
        log=f"access_log {directory}/access.log;" if realistic else "access_log off;",
        http=scenario.http.format(backend=backend, dir=directory) if scenario.http else "")


def growth_configuration(growth, size, port, directory, files, backend, engine, user, binary):
    return MAIN.format(
        user=user, dir=directory, engine=engine, port=port, files=files, locations=growth.location(size),
        servers=growth.servers(size, port), temp=temp(binary, directory),
        log="access_log off; server_names_hash_max_size 65536; server_names_hash_bucket_size 128;",
        http=growth.http(size, backend))


def backend_configuration(port, directory, files, user):
    return MAIN.format(
        user=user, dir=directory, engine="epoll", port=port, files=files, log="access_log off;", http=CACHE, servers="",
        temp=temp("nginx", directory), locations="""
        location / { return 200 "an answer from the origin\\n"; }
        location /b/ { }
        location /s/ { ssi on; }
        location /slow/ { alias %s/b/; limit_rate 1k; }""" % files)


def lua(scenario, realistic):
    """The client's script: requests made once, chosen at random, and a machine-readable summary."""
    urls, host = scenario.variety(realistic), scenario.host
    head = "".join(f"{h}\\r\\n" for h in scenario.lines(realistic))
    path = scenario.path.replace("%d", f'" .. i * {scenario.stride} .. "')
    return f"""
local requests = {{}}
local count = {urls}
local burst = {scenario.pipeline}

function init(args)
    local single = {{}}
    for i = 0, count - 1 do
        single[i] = "GET {path} HTTP/1.1\\r\\nHost: {host}\\r\\n{head}\\r\\n"
    end
    for i = 0, count - 1 do
        local all = {{}}
        for k = 0, burst - 1 do all[k + 1] = single[(i + k * 7) % count] end
        requests[i] = table.concat(all)
    end
end

function request()
    return requests[math.random(0, count - 1)]
end

function done(summary, latency, all)
    local e = summary.errors
    io.write(string.format(
        "RESULT requests=%d duration=%d bytes=%d connect=%d read=%d write=%d status=%d timeout=%d " ..
        "p50=%d p99=%d p999=%d\\n",
        summary.requests, summary.duration, summary.bytes, e.connect, e.read, e.write, e.status, e.timeout,
        latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
"""
