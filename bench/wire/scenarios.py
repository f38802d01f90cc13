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
events {{ worker_connections 4096; use {engine}; }}
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

PROXY_HTTP = "upstream origin {{ server 127.0.0.1:{backend}; keepalive 64; }}"
PROXY = 'location /p/ { proxy_http_version 1.1; proxy_set_header Connection ""; proxy_pass http://origin; }'


class Scenario:
    def __init__(self, name, path, location, http="", target=None, urls=1000, pipeline=1, close=False):
        self.name = name          # as given on the command line
        self.path = path          # with %d for the number of the URL
        self.location = location
        self.http = http
        self.target = target      # nginx's CPU per request times this is the aim
        self.urls = urls
        self.pipeline = pipeline
        self.close = close

    @property
    def needs_backend(self):
        return "{backend}" in self.http


ALL = [
    Scenario("return", "/r/%d", "location /r/ { return 200 \"hello, world\\n\"; }", target=0.95),
    Scenario("static-1k", "/f/%d.html", "location /f/ { }", http=CACHE, target=0.80),
    Scenario("static-1k-nocache", "/f/%d.html", "location /f/ { }", target=0.95),
    Scenario("static-100k", "/b/%d.bin", "location /b/ { }", http=CACHE, urls=100),
    Scenario("proxy", "/p/%d", PROXY, http=PROXY_HTTP, target=0.95),
    Scenario("pipelined16", "/r/%d", "location /r/ { return 200 \"hello, world\\n\"; }", target=0.25, pipeline=16),
    Scenario("short-lived", "/f/%d.html", "location /f/ { }", http=CACHE, close=True),
]


# A packaged nginx was built with absolute paths; Weir's lie below the prefix, as a plain build's do.
TEMP = "".join(f"{name}_temp_path {{dir}}/{name}; " for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))


def temp(binary, directory):
    return TEMP.format(dir=directory) if binary.endswith("nginx") else ""


def configuration(scenario, realistic, port, directory, files, backend, engine, user, binary):
    locations = scenario.location + (OTHERS if realistic else "")
    return MAIN.format(
        user=user, dir=directory, engine=engine, port=port, files=files, locations=locations,
        temp=temp(binary, directory),
        log=f"access_log {directory}/access.log;" if realistic else "access_log off;",
        http=scenario.http.format(backend=backend) if scenario.http else "")


def backend_configuration(port, directory, user):
    return MAIN.format(
        user=user, dir=directory, engine="epoll", port=port, files=directory, log="access_log off;", http="",
        temp=temp("nginx", directory),
        locations='location / { return 200 "an answer from the origin\\n"; }')


def lua(scenario, realistic):
    """The client's script: requests made once, chosen at random, and a machine-readable summary."""
    headers = list(BROWSER) if realistic else []
    if scenario.close:
        headers.append("Connection: close")
    urls = scenario.urls if realistic else 1
    head = "".join(f"{h}\\r\\n" for h in headers)
    path = scenario.path.replace("%d", '" .. i .. "')
    return f"""
local requests = {{}}
local count = {urls}
local burst = {scenario.pipeline}

function init(args)
    local single = {{}}
    for i = 0, count - 1 do
        single[i] = "GET {path} HTTP/1.1\\r\\nHost: localhost\\r\\n{head}\\r\\n"
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
