// Requests that are malformed, ambiguous or too large, and how they are refused.
using static Weir.Tests.Harness.Cases.Say;

namespace Weir.Tests.Harness.Cases;

public static class FramingCases
{
    private const string Area = "framing";

    public static readonly Case[] All =
    [
        Refused("no Host in HTTP/1.1", "GET / HTTP/1.1\r\n\r\n"),
        Refused("two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        Refused("a Host that is no host", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
        Refused("a Host with a slash", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
        Refused("an empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n"),
        Refused("a lower-case method", "get / HTTP/1.1\r\nHost: x\r\n\r\n"),
        Refused("an unknown method in capitals", "FROB / HTTP/1.1\r\nHost: x\r\n\r\n"),
        Refused("a method with a sign", "G-T / HTTP/1.1\r\nHost: x\r\n\r\n"),
        Refused("a request of garbage", "\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"),
        Refused("a version that does not exist", "GET / HTTP/3.1\r\nHost: x\r\n\r\n"),
        Refused("HTTP/2.0 in a request line", "GET / HTTP/2.0\r\nHost: x\r\n\r\n"),
        Refused("HTTP/1.2 is served as 1.1", "GET / HTTP/1.2\r\nHost: x\r\n\r\n"),
        Refused("no version, as in HTTP/0.9", "GET /\r\n"),
        Refused("a version in lower case", "GET / http/1.1\r\nHost: x\r\n\r\n"),
        Refused("a target without a slash", "GET a HTTP/1.1\r\nHost: x\r\n\r\n"),
        Refused("an absolute target", "GET http://other.example/a?b HTTP/1.1\r\nHost: x\r\n\r\n"),
        Refused("CONNECT", "CONNECT / HTTP/1.1\r\nHost: x\r\n\r\n"),
        Refused("TRACE", "TRACE / HTTP/1.1\r\nHost: x\r\n\r\n"),
        Refused("a target that climbs out", "GET /../a HTTP/1.1\r\nHost: x\r\n\r\n"),
        Refused("a target that climbs out encoded", "GET /%2e%2e/a HTTP/1.1\r\nHost: x\r\n\r\n"),
        Refused("a target with a NUL", "GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n"),
        Refused("a target with half an escape", "GET /%4 HTTP/1.1\r\nHost: x\r\n\r\n"),
        Refused("a target with a bad escape", "GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n"),
        Refused("a target with a control byte", "GET /a\x01b HTTP/1.1\r\nHost: x\r\n\r\n"),
        Refused("a target normalised", "GET /a/./b//c/../d?x=/../y HTTP/1.1\r\nHost: x\r\n\r\n"),
        Refused("a length that is no number", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1x\r\n\r\n0"),
        Refused("a negative length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"),
        Refused("two lengths", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n0"),
        Refused("a length and chunks",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        Refused("a transfer coding nobody knows",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n"),
        Refused("chunks in HTTP/1.0",
            "POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        Refused("a header without a colon", "GET / HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n"),
        Refused("a header that begins with a colon", "GET / HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n"),
        Refused("a space before the colon", "GET / HTTP/1.1\r\nHost: x\r\nA : y\r\n\r\n"),
        Refused("a folded header", "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n"),
        Refused("a NUL in a value", "GET / HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n"),
        Refused("a bare CR in a value", "GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n"),
        Refused("an underscore in a name", "GET /h HTTP/1.1\r\nHost: x\r\nA_B: c\r\n\r\n"),
        Refused("a length with a plus sign", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n0"),
        Refused("a length beyond all numbers",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n0"),
        Refused("a tab behind the method", "GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n"),
        Refused("two spaces behind the target", "GET /  HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        Refused("a word behind the version", "GET / HTTP/1.1 x\r\nHost: x\r\n\r\n"),
        Refused("a version with a big minor number", "GET / HTTP/1.100\r\nHost: x\r\n\r\n"),
        Refused("a chunk whose size is empty",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\r\n0\r\n\r\n"),
        Refused("a Host with a user's name", "GET / HTTP/1.1\r\nHost: a@b\r\nConnection: close\r\n\r\n"),
        Refused("a version with one digit", "GET / HTTP/1\r\nHost: x\r\n\r\n"),
        Refused("a Host of an address in brackets",
            "GET / HTTP/1.1\r\nHost: [::1]:80\r\nConnection: close\r\n\r\n"),
        new Case(Area, "underscores_in_headers on")
        {
            Http = "underscores_in_headers on;",
            Server = "location / { return 200 \"$http_a_b\"; }",
            Talks = [Get("/", "A_B: c")],
        },
        new Case(Area, "a chunk size that is no number")
        {
            Server = "location / { proxy_pass http://127.0.0.1:1; }",
            Talks = [Raw("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n")],
        },
        new Case(Area, "a head that fits exactly, and one that does not")
        {
            Server = "large_client_header_buffers 2 1k; client_header_buffer_size 512; location / { return 200 ok; }",
            Talks =
            [
                Get("/", "A: " + new string('a', 900)),
                Get("/", "A: " + new string('a', 1100)),
                Get("/", "A: " + new string('a', 900), "B: " + new string('b', 900), "C: " + new string('c', 900)),
                Get("/" + new string('p', 900)),
                Get("/" + new string('p', 1100)),
            ],
        },
    ];

    private static Case Refused(string name, string request) => new(Area, name)
    {
        Server = "location / { return 200 \"$request_method $uri $args $host $http_a_b|$http_a\\n\"; }",
        Talks = [Raw(request)],
    };
}
