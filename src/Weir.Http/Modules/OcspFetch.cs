// Asks an OCSP responder over plain HTTP (RFC 6960, appendix A.1): one small request on a connection of its own, the
// answer bounded in size and time. One loop's thread; failures are told in words and never thrown.
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;
using Weir.Session.Upstream;

using HttpResponse = Weir.Protocol.Http1.ResponseHead;

namespace Weir.Http.Modules;

/// <summary>Where a responder lives.</summary>
internal sealed class OcspResponder
{
    public required string Host { get; init; }
    public required int Port { get; init; }
    public required string Path { get; init; }

    /// <summary>Its addresses where they are known already.</summary>
    public byte[][] Addresses { get; init; } = [];

    /// <summary>Reads http://HOST[:PORT][/PATH]; null with nginx's words.</summary>
    internal static OcspResponder? Parse(string url, HttpBuild? build, out string? error)
    {
        const string scheme = "http://";
        if (!url.StartsWith(scheme, StringComparison.OrdinalIgnoreCase))
        {
            error = "invalid URL prefix";
            return null;
        }
        string rest = url[scheme.Length..];
        int slash = rest.IndexOf('/');
        string path = slash < 0 ? "/" : rest[slash..], authority = slash < 0 ? rest : rest[..slash];
        if (!UpstreamServers.TrySplit(authority, 80, out string host, out int port, out bool _) || host.Length == 0)
        {
            error = host.Length == 0 ? "no host" : "invalid port";
            return null;
        }
        error = null;
        SocketAddress[]? addresses = build is not null ? UpstreamServers.Addresses(build, host, port, out error)
            : SocketAddress.TryParse($"{host}:{port}", port, out SocketAddress? literal, out string _) ? [literal!]
            : [];
        return addresses is null ? null : new OcspResponder
        {
            Host = host,
            Port = port,
            Path = path,
            Addresses = [.. addresses.Select(static a => a.Native.ToArray())],
        };
    }
}

/// <summary>One question to a responder.</summary>
internal static class OcspFetch
{
    private const int TimeoutMs = 60_000, AnswerBytesMax = 64 * 1024;

    /// <summary>The answer in DER; null with the reason.</summary>
    internal static async LoopTask<(byte[]? Answer, string? Error)> AskAsync(EventLoop loop, OcspResponder responder,
        ResolverSettings? resolver, byte[] question)
    {
        byte[][] addresses = responder.Addresses;
        if (addresses.Length == 0)
        {
            if (resolver is null)
            {
                return (null, $"no resolver defined to resolve {responder.Host}");
            }
            ResolveOutcome found = await Session.Upstream.Resolver.Of(loop, resolver)
                .ResolveAsync(System.Text.Encoding.Latin1.GetBytes(responder.Host));
            if (!found.IsOk)
            {
                return (null, $"{responder.Host} could not be resolved ({found.Code}: {found.Message})");
            }
            addresses = [.. found.Name!.Peers(responder.Port).Select(static p => p.Address)];
        }
        string? error = null;
        foreach (byte[] address in addresses)
        {
            LoopTask<ConnectOutcome> connecting = loop.ConnectAsync(address, default, TimeoutMs,
                out Connection connection);
            ConnectOutcome outcome = await connecting;
            if (outcome.IsError)
            {
                error = $"connect() failed ({outcome.Error}: {Errno.Describe(outcome.Error)})";
                continue;
            }
            (byte[]? Answer, string? Error) result = await TalkAsync(connection, responder, question);
            connection.Close();
            if (result.Answer is not null)
            {
                return result;
            }
            error = result.Error;
        }
        return (null, error ?? "no address to ask");
    }

    private static async LoopTask<(byte[]?, string?)> TalkAsync(Connection connection, OcspResponder responder,
        byte[] question)
    {
        string slash = responder.Path.EndsWith('/') ? "" : "/";
        string host = responder.Port == 80 ? responder.Host : $"{responder.Host}:{responder.Port}";
        string target = responder.Path + slash + Uri.EscapeDataString(Convert.ToBase64String(question));
        EventLoop loop = connection.Loop;
        BufferChain chain = loop.RentChain();
        chain.Append(System.Text.Encoding.Latin1.GetBytes($"GET {target} HTTP/1.0\r\nHost: {host}\r\n\r\n"));
        bool sent = connection.Send(chain) && !(await connection.DrainAsync(chain)).IsError;
        loop.Return(chain);
        return sent ? await ReadAsync(connection) : (null, "send() failed");
    }

    private static async LoopTask<(byte[]?, string?)> ReadAsync(Connection connection)
    {
        byte[] bytes = new byte[AnswerBytesMax];
        int length = 0;
        var head = new HttpResponse();
        var parser = default(ResponseHeadParser);
        parser.Reset(cgi: false);
        connection.SetReadDeadline(connection.Loop.NowMs + TimeoutMs);
        bool hasHead = false;
        while (true)
        {
            RecvLease lease = await connection.ReceiveAsync();
            if (lease.IsError)
            {
                return (null, lease.Error == Errno.ETIMEDOUT ? "timed out"
                    : $"recv() failed ({lease.Error}: {Errno.Describe(lease.Error)})");
            }
            bool ended = lease.IsEnd;
            if (!ended)
            {
                int room = Math.Min(lease.Length, bytes.Length - length);
                lease.Span[..room].CopyTo(bytes.AsSpan(length));
                length += room;
                bool tooLong = room < lease.Length;
                lease.Release();
                if (tooLong)
                {
                    return (null, "the answer is too long");
                }
            }
            if (!hasHead)
            {
                ParseStep step = parser.Parse(bytes.AsSpan(0, length), head, new ParseOptions { MaxHeaders = 100 });
                hasHead = step == ParseStep.Done;
                if (step == ParseStep.Reject || hasHead && head.Status != 200)
                {
                    return (null, hasHead ? $"sent status {head.Status}" : "sent an invalid answer");
                }
            }
            if (hasHead && (ended || head.ContentLength >= 0 && length - head.HeadLength >= head.ContentLength))
            {
                int body = head.ContentLength < 0 ? length - head.HeadLength : (int)head.ContentLength;
                return length - head.HeadLength < body ? (null, "prematurely closed connection")
                    : (bytes[head.HeadLength..(head.HeadLength + body)], null);
            }
            if (ended)
            {
                return (null, "prematurely closed connection");
            }
        }
    }
}
