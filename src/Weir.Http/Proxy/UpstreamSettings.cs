// The settings that every protocol towards upstream servers has (proxy_*, fastcgi_*): timeouts, buffers, when to try
// the next server, which headers pass. Filled by directives, merged parent to child once, then frozen.
using Weir.Conf;
using Weir.Http.Cache;
using Weir.Kernel;
using Weir.Protocol.Http1;
using Weir.Session;

namespace Weir.Http.Proxy;

/// <summary>Reasons to try the next server (`proxy_next_upstream`).</summary>
[Flags]
public enum NextUpstream
{
    None = 0,
    Error = 1,
    Timeout = 2,
    InvalidHeader = 4,
    Http500 = 8,
    Http502 = 16,
    Http503 = 32,
    Http504 = 64,
    Http403 = 128,
    Http404 = 256,
    Http429 = 512,
    NonIdempotent = 1024,
    Off = 2048,

    /// <summary>No server can be asked: never a reason to try another.</summary>
    NoLive = 4096,
}

/// <summary>Response headers of upstreams that are not acted on (`proxy_ignore_headers`).</summary>
[Flags]
public enum IgnoredHeaders
{
    None = 0,
    XAccelRedirect = 1,
    XAccelExpires = 2,
    XAccelLimitRate = 4,
    XAccelBuffering = 8,
    XAccelCharset = 16,
    Expires = 32,
    CacheControl = 64,
    SetCookie = 128,
    Vary = 256,
}

/// <summary>A local address to connect from.</summary>
public sealed class BindAddress
{
    /// <summary>The native sockaddr; null when it depends on variables.</summary>
    public byte[]? Address { get; init; }
    public Template? Template { get; init; }

    /// <summary>The address need not be this machine's.</summary>
    public bool IsTransparent { get; init; }

    /// <summary>The address for a request; empty to let the kernel choose.</summary>
    internal byte[] Of(HttpRequest r)
    {
        if (Template is null)
        {
            return Address ?? [];
        }
        string text = Template.Evaluate(r).ToString();
        if (text.Length == 0)
        {
            return [];
        }
        if (SocketAddress.TryParse(text, 0, out SocketAddress? address, out string _))
        {
            return address!.Native.ToArray();
        }
        r.LogError(LogLevel.Error, $"invalid local address \"{text}\"");
        return [];
    }
}

/// <summary>What all upstream protocols have in common.</summary>
public abstract class UpstreamSettings
{
    public Inherited<bool> Buffering;
    public Inherited<bool> RequestBuffering;
    public Inherited<bool> IgnoreClientAbort;
    public Inherited<BindAddress?> Bind;
    public Inherited<bool> SocketKeepAlive;
    public Inherited<long> SocketReceiveBytes;
    public Inherited<long> SocketSendBytes;
    public Inherited<long> ConnectTimeoutMs;
    public Inherited<long> SendTimeoutMs;
    public Inherited<long> SendLowatBytes;
    public Inherited<long> ReadTimeoutMs;
    public Inherited<long> BufferSizeBytes;
    public Inherited<ConfBufs> Buffers;
    public Inherited<long> BusyBuffersBytes;
    public Inherited<bool> PassRequestHeaders;
    public Inherited<bool> PassRequestBody;
    public Inherited<bool> InterceptErrors;
    public Inherited<bool> ForceRanges;
    public Inherited<Template> LimitRate;
    public Inherited<string> TempPath;
    public Inherited<long> TempFileBytesMax;
    public Inherited<long> TempWriteBytes;
    public Inherited<NextUpstream> Next;
    public Inherited<int> NextTries;
    public Inherited<long> NextTimeoutMs;
    public Inherited<IgnoredHeaders> IgnoreHeaders;
    public InheritedList<string> PassHeaders;
    public InheritedList<string> HideHeaders;

    /// <summary>Its cache, and what it stores.</summary>
    public Cache.CacheSettings Cache { get; } = new();
    private bool _busyIsGiven;
    private bool _tempWriteIsGiven;

    /// <summary>Response headers that do not reach the client; frozen.</summary>
    public HeaderSet Hidden { get; private set; } = null!;

    /// <summary>Bytes of a response held in memory before a slow client makes them go to a file.</summary>
    public long MemoryBytesMax { get; private set; }

    /// <summary>The words of the directive family, for messages.</summary>
    protected abstract string Prefix { get; }

    /// <summary>Headers hidden when nothing says otherwise.</summary>
    protected abstract ReadOnlySpan<string> HiddenByDefault { get; }

    /// <summary>Whether bodies are buffered where no directive says otherwise.</summary>
    protected virtual bool BuffersByDefault => true;

    protected void MergeCommon(HttpBuild build, UpstreamSettings p)
    {
        Buffering.Merge(p.Buffering, BuffersByDefault);
        RequestBuffering.Merge(p.RequestBuffering, BuffersByDefault);
        IgnoreClientAbort.Merge(p.IgnoreClientAbort, false);
        Bind.Merge(p.Bind, null);
        SocketKeepAlive.Merge(p.SocketKeepAlive, false);
        SocketReceiveBytes.Merge(p.SocketReceiveBytes, 0);
        SocketSendBytes.Merge(p.SocketSendBytes, 0);
        ConnectTimeoutMs.Merge(p.ConnectTimeoutMs, 60_000);
        SendTimeoutMs.Merge(p.SendTimeoutMs, 60_000);
        SendLowatBytes.Merge(p.SendLowatBytes, 0);
        ReadTimeoutMs.Merge(p.ReadTimeoutMs, 60_000);
        BufferSizeBytes.Merge(p.BufferSizeBytes, 4096);
        Buffers.Merge(p.Buffers, new ConfBufs(8, 4096));
        PassRequestHeaders.Merge(p.PassRequestHeaders, true);
        PassRequestBody.Merge(p.PassRequestBody, true);
        InterceptErrors.Merge(p.InterceptErrors, false);
        ForceRanges.Merge(p.ForceRanges, false);
        LimitRate.Merge(p.LimitRate, null!);
        TempPath.Merge(p.TempPath, build.Resources.TempPrefix);
        TempFileBytesMax.Merge(p.TempFileBytesMax, 1024 * 1024 * 1024);
        Next.Merge(p.Next, NextUpstream.Error | NextUpstream.Timeout);
        NextTries.Merge(p.NextTries, 0);
        NextTimeoutMs.Merge(p.NextTimeoutMs, 0);
        IgnoreHeaders.Merge(p.IgnoreHeaders, IgnoredHeaders.None);
        PassHeaders.Merge(p.PassHeaders);
        HideHeaders.Merge(p.HideHeaders);
        CacheDirectives.CheckZone(build, Cache);
        Cache.Merge(p.Cache);
        CheckBuffers(build, p);
        Hidden = new HeaderSet(build.Memory);
        foreach (string name in HiddenByDefault)
        {
            Hidden.Add(name);
        }
        foreach (string name in HideHeaders.Items)
        {
            Hidden.Add(name);
        }
        foreach (string name in PassHeaders.Items)
        {
            Hidden.Remove(name);
        }
    }

    /// <summary>A setting whose default follows this level's buffers: only what a directive gave is inherited, through
    /// any number of levels.</summary>
    private static void MergeGiven(ref Inherited<long> own, in Inherited<long> outer, bool outerIsGiven,
        long byDefault, out bool isGiven)
    {
        bool inherits = outer.IsSet || outerIsGiven;
        isGiven = own.IsSet || inherits;
        own.Merge(inherits ? outer : default, byDefault);
    }

    private void CheckBuffers(HttpBuild build, UpstreamSettings p)
    {
        ConfBufs buffers = Buffers.Value;
        long largest = Math.Max(BufferSizeBytes.Value, buffers.Bytes);
        long busyDefault = 2 * largest;
        MergeGiven(ref BusyBuffersBytes, in p.BusyBuffersBytes, p._busyIsGiven, busyDefault, out _busyIsGiven);
        MergeGiven(ref TempWriteBytes, in p.TempWriteBytes, p._tempWriteIsGiven, 2 * largest, out _tempWriteIsGiven);
        MemoryBytesMax = Math.Max(BufferSizeBytes.Value + buffers.Count * buffers.Bytes, 8192);
        if (Prefix is "memcached" or "grpc")
        {
            // One buffer for heads is all that these let one choose.
            return;
        }
        if (buffers.Count < 2)
        {
            build.Errors.Emerg($"there must be at least 2 \"{Prefix}_buffers\"", null, null);
        }
        else if (BusyBuffersBytes.Value < largest)
        {
            build.Errors.Emerg($"\"{Prefix}_busy_buffers_size\" must be equal to or greater than "
                + "the maximum of the value of "
                + $"\"{Prefix}_buffer_size\" and one of the \"{Prefix}_buffers\"", null, null);
        }
        else if (BusyBuffersBytes.Value > (buffers.Count - 1) * buffers.Bytes)
        {
            build.Errors.Emerg($"\"{Prefix}_busy_buffers_size\" must be less than the size of "
                + $"all \"{Prefix}_buffers\" minus "
                + "one buffer", null, null);
        }
        if (TempWriteBytes.Value < largest)
        {
            build.Errors.Emerg($"\"{Prefix}_temp_file_write_size\" must be equal to or greater than the maximum of "
                + $"the value of \"{Prefix}_buffer_size\" and one of the \"{Prefix}_buffers\"", null, null);
        }
        if (TempFileBytesMax.Value != 0 && TempFileBytesMax.Value < largest)
        {
            build.Errors.Emerg($"\"{Prefix}_max_temp_file_size\" must be equal to zero to disable "
                + "temporary files usage or must "
                + $"be equal to or greater than the maximum of the value of \"{Prefix}_buffer_size\" and one of the "
                + $"\"{Prefix}_buffers\"", null, null);
        }
    }
}

/// <summary>A set of header names: known ones by number, others by comparison. Built with the configuration.</summary>
public sealed class HeaderSet(NativeArena memory)
{
    private ulong _known;
    private readonly List<string> _texts = [];
    private NativeSlice[] _others = [];

    public void Add(string name)
    {
        KnownResponseHeader known = HeaderName.FindResponse(System.Text.Encoding.Latin1.GetBytes(name));
        if (known != KnownResponseHeader.None)
        {
            _known |= 1UL << (int)known;
        }
        else if (!_texts.Contains(name, StringComparer.OrdinalIgnoreCase))
        {
            _texts.Add(name);
            _others = [.. _texts.Select(memory.Store)];
        }
    }

    public void Remove(string name)
    {
        KnownResponseHeader known = HeaderName.FindResponse(System.Text.Encoding.Latin1.GetBytes(name));
        if (known != KnownResponseHeader.None)
        {
            _known &= ~(1UL << (int)known);
        }
        else if (_texts.RemoveAll(t => t.Equals(name, StringComparison.OrdinalIgnoreCase)) > 0)
        {
            _others = [.. _texts.Select(memory.Store)];
        }
    }

    public bool Contains(KnownResponseHeader known, ReadOnlySpan<byte> name)
    {
        if (known != KnownResponseHeader.None)
        {
            return (_known & (1UL << (int)known)) != 0;
        }
        foreach (ref readonly NativeSlice other in _others.AsSpan())
        {
            if (HeaderName.Same(other.Span, name))
            {
                return true;
            }
        }
        return false;
    }
}
