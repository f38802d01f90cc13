// Asks the servers of one group whether they are well. Every worker has one of these, but only the one that holds the
// group's claim in the zone asks; when it dies, or holds no more than its claim, another takes the claim and goes on. A
// check is a request of its own on a connection of its own. One loop's thread; ends when its configuration is retired.
using System.Runtime.InteropServices;
using Weir.Http.Modules;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;
using Weir.Session.Upstream;

using HttpResponse = Weir.Protocol.Http1.ResponseHead;

namespace Weir.Http.Proxy;

/// <summary>A health check as the configuration says it.</summary>
internal sealed class HealthRule
{
    public required UpstreamGroup Group { get; init; }
    public required long IntervalMs { get; init; }
    public required long JitterMs { get; init; }
    public required int Fails { get; init; }
    public required int Passes { get; init; }

    /// <summary>The port to ask instead of the server's own; 0 for that.</summary>
    public required int Port { get; init; }
    public required HealthMatch Match { get; init; }
    public required long ConnectTimeoutMs { get; init; }
    public required long ReadTimeoutMs { get; init; }
    public required Log? Log { get; init; }
    public required byte[] Request { get; init; }
}

/// <summary>The checks of one group on one loop.</summary>
internal sealed class HealthChecker(EventLoop loop, HttpConfiguration configuration, HealthRule rule)
{
    private const int AnswerBytesMax = 256 * 1024;

    /// <summary>How often is looked whether another worker's claim has ended, and how long one may be late.</summary>
    private const int LookMs = 500, ClaimGraceMs = 2000;

    private readonly GroupState _group = UpstreamStates.Of(loop).For(rule.Group);
    private readonly HashSet<Peer> _underWay = [];

    public void Start()
    {
        // Nothing that a check refers to goes before the last one has ended.
        configuration.AddReference();
        RunAsync().Forget();
    }

    private async LoopTask<Unit> RunAsync()
    {
        if (_group.Named is { } named)
        {
            await named.FirstAnswers();
        }
        long nextMs = loop.NowMs;
        while (!_group.IsRetired)
        {
            bool mine = _group.ClaimChecks(loop.NowMs + Math.Max(LookMs, rule.IntervalMs) + ClaimGraceMs);
            if (mine && loop.NowMs >= nextMs)
            {
                nextMs = loop.NowMs + rule.IntervalMs;
                CheckAll(_group.Primary);
                CheckAll(_group.Backup);
            }
            long wait = mine ? Math.Max(nextMs - loop.NowMs, 1) : LookMs;
            await loop.DelayAsync((int)Math.Min(wait, LookMs));
        }
        while (_underWay.Count > 0)
        {
            await loop.DelayAsync(LookMs);
        }
        configuration.Release();
        return default;
    }

    private void CheckAll(IReadOnlyList<Peer> peers)
    {
        for (int i = 0; i < peers.Count; i++)
        {
            Peer peer = peers[i];
            if (!_group.IsDown(peer) && _underWay.Add(peer))
            {
                CheckAsync(peer).Forget();
            }
        }
    }

    private async LoopTask<Unit> CheckAsync(Peer peer)
    {
        if (rule.JitterMs > 0)
        {
            await loop.DelayAsync((int)(Random() % (ulong)rule.JitterMs) + 1);
        }
        string? fault = _group.IsRetired ? null : await AskAsync(peer);
        _underWay.Remove(peer);
        if (_group.IsRetired || peer.IsGone)
        {
            return default;
        }
        HealthChange change = _group.Checked(peer, fault is null, rule.Fails, rule.Passes);
        if (change != HealthChange.None)
        {
            string name = SocketAddressText(peer);
            rule.Log?.Write(LogLevel.Warn, change == HealthChange.Unhealthy
                ? $"peer {name} in upstream \"{rule.Group.Name}\" is unhealthy: {fault}"
                : $"peer {name} in upstream \"{rule.Group.Name}\" is healthy");
        }
        return default;
    }

    private static string SocketAddressText(Peer peer)
    {
        Span<byte> text = stackalloc byte[SocketAddress.TextBytesMax];
        return System.Text.Encoding.Latin1.GetString(
            text[..SocketAddress.Format(peer.Spec.Address, text, withPort: true)]);
    }

    private ulong Random()
    {
        ulong value = 0;
        loop.FillRandom(MemoryMarshal.AsBytes(new Span<ulong>(ref value)));
        return value;
    }

    /// <summary>One check; null when it is passed, else why not.</summary>
    private async LoopTask<string?> AskAsync(Peer peer)
    {
        byte[] address = peer.Spec.Address;
        if (rule.Port > 0 && address.Length > 8)
        {
            address = [.. address];
            address[2] = (byte)(rule.Port >> 8);
            address[3] = (byte)rule.Port;
        }
        LoopTask<ConnectOutcome> connecting = loop.ConnectAsync(address, default, (int)rule.ConnectTimeoutMs,
            out Connection connection);
        ConnectOutcome outcome = await connecting;
        if (outcome.IsError)
        {
            return $"connect() failed ({outcome.Error}: {Errno.Describe(outcome.Error)})";
        }
        BufferChain chain = loop.RentChain();
        chain.Append(rule.Request);
        bool sent = connection.Send(chain) && !(await connection.DrainAsync(chain)).IsError;
        loop.Return(chain);
        string? fault = sent ? await ReadAsync(connection) : "the request could not be sent";
        connection.Close();
        return fault;
    }

    private async LoopTask<string?> ReadAsync(Connection connection)
    {
        byte[] bytes = new byte[4096];
        int length = 0, headLength = 0;
        var head = new HttpResponse();
        var parser = default(ResponseHeadParser);
        parser.Reset(cgi: false);
        connection.SetReadDeadline(loop.NowMs + rule.ReadTimeoutMs);
        while (true)
        {
            RecvLease lease = await connection.ReceiveAsync();
            if (lease.IsError)
            {
                return lease.Error == Errno.ETIMEDOUT ? "timed out"
                    : $"recv() failed ({lease.Error}: {Errno.Describe(lease.Error)})";
            }
            bool ended = lease.IsEnd;
            if (!ended)
            {
                if (length + lease.Length > bytes.Length)
                {
                    Array.Resize(ref bytes, Math.Max(bytes.Length * 2, length + lease.Length));
                }
                lease.Span.CopyTo(bytes.AsSpan(length));
                length += lease.Length;
                lease.Release();
            }
            if (headLength == 0)
            {
                ParseStep step = parser.Parse(bytes.AsSpan(0, length), head, new ParseOptions { MaxHeaders = 1000 });
                if (step == ParseStep.Reject)
                {
                    return "an invalid answer";
                }
                headLength = step == ParseStep.NeedMore ? 0 : head.HeadLength;
            }
            if (headLength == 0)
            {
                if (ended || length > AnswerBytesMax)
                {
                    return "no whole head";
                }
                continue;
            }
            bool whole = !rule.Match.NeedsBody || length - headLength >= AnswerBytesMax
                || head.ContentLength >= 0 && length - headLength >= head.ContentLength;
            if (whole || ended)
            {
                return rule.Match.Fault(head, bytes.AsSpan(0, length), bytes.AsSpan(headLength, length - headLength));
            }
        }
    }
}
