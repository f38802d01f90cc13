// Names to addresses while the server runs: a small DNS client on the loop. Answers are kept as long as they say (or as
// `valid=` says); many who ask for one name at once share one question; a question is repeated, to the next server,
// until the time is over; an answer that does not fit into a datagram is fetched over TCP (ResolverStream.cs).
// One loop's thread; one object per loop and `resolver`.
using Weir.Kernel;
using Weir.Kernel.Net;
using Weir.Loop;
using Weir.Protocol.Dns;
using Weir.Protocol.Http1;

namespace Weir.Session.Upstream;

/// <summary>How a lookup ended.</summary>
public readonly struct ResolveOutcome(ResolvedName? name, int code)
{
    public const int TimedOut = 110;

    /// <summary>The name with its addresses; null when there are none.</summary>
    public readonly ResolvedName? Name = name;

    /// <summary>0, a DNS response code, or <see cref="TimedOut"/>.</summary>
    public readonly int Code = code;

    public bool IsOk => Name is not null;

    /// <summary>nginx's words for the code.</summary>
    public string Message => Code switch
    {
        1 => "Format error",
        2 => "Server failure",
        3 => "Host not found",
        4 => "Unimplemented",
        5 => "Operation refused",
        TimedOut => "Operation timed out",
        _ => "Unknown error",
    };
}

/// <summary>A name and what is known of it.</summary>
public sealed class ResolvedName : LoopTimer
{
    internal readonly Resolver Owner;
    internal readonly byte[] Name;
    internal byte[] Asked;
    internal ResolvedName? NextInBucket;
    internal List<ResolveWait> Waiters = [];
    internal List<ResolveWait> Spare = [];
    internal readonly List<byte[]> Found = [];
    internal readonly List<ServiceTarget> FoundServices = [];
    internal bool IsAsking;
    internal int PendingAnswers;
    internal int Aliases;
    internal int Code;
    internal uint Ttl;
    internal long GiveUpMs;
    internal ushort IdInet;
    internal ushort IdInet6;
    private PeerSpec[] _peers = [];
    private int _peersPort = -1;
    private int _peersAt = -1;

    internal ResolvedName(Resolver owner, byte[] name, bool isService)
    {
        Owner = owner;
        Name = name;
        Asked = name;
        IsService = isService;
    }

    /// <summary>Service records are asked for, not addresses.</summary>
    internal bool IsService { get; }

    /// <summary>What the service records say; empty for addresses.</summary>
    public ServiceTarget[] Services { get; internal set; } = [];

    internal bool HasAnswer => Addresses.Length > 0 || Services.Length > 0;

    /// <summary>Addresses: 4 or 16 bytes each.</summary>
    public byte[][] Addresses { get; internal set; } = [];
    public long ExpiresMs { get; internal set; }

    /// <summary>Counts its renewals.</summary>
    internal int Version { get; set; }

    /// <summary>The addresses as servers with this port.</summary>
    public PeerSpec[] Peers(int port)
    {
        if (_peersPort != port || _peersAt != Version)
        {
            _peers = [.. Addresses.Select(a => new PeerSpec
            {
                Address = (a.Length == 4 ? SocketAddress.Inet(a, port) : SocketAddress.Inet6(a, port)).Native.ToArray(),
                Name = default,
            })];
            _peersPort = port;
            _peersAt = Version;
        }
        return _peers;
    }

    protected override void Fire() => Owner.OnTimer(this);
}

/// <summary>A service record: where a service is to be had, the least priority first (RFC 2782).</summary>
public sealed record ServiceTarget(int Priority, int Weight, int Port, string Host);

/// <summary>A wait for a name.</summary>
internal sealed class ResolveWait : LoopOperation<ResolveOutcome>
{
    internal ResolveWait? Next;
}

/// <summary>Asks name servers.</summary>
public sealed class Resolver
{
    private const int RepeatMs = 5000;
    private const int NamesMax = 4096;
    private const int AliasesMax = 8;
    private const int RecordsMax = 64;

    private static readonly LoopSlot<Dictionary<ResolverSettings, Resolver>> s_slot = new();

    private readonly EventLoop _loop;
    private readonly ResolverSettings _settings;
    private readonly DatagramSocket?[] _sockets;
    private readonly Dictionary<uint, ResolvedName> _names = [];
    private readonly Dictionary<ushort, ResolvedName> _questions = [];
    private readonly List<ResolverStream> _streams = [];
    private ResolveWait? _freeWaits;
    private int _server;
    private int _count;

    public Resolver(EventLoop loop, ResolverSettings settings)
    {
        _loop = loop;
        _settings = settings;
        _sockets = new DatagramSocket?[settings.Servers.Length];
    }

    /// <summary>The loop's resolver for these settings.</summary>
    public static Resolver Of(EventLoop loop, ResolverSettings settings)
    {
        Dictionary<ResolverSettings, Resolver> all = loop.Slot(s_slot, static _ => []);
        if (!all.TryGetValue(settings, out Resolver? resolver))
        {
            resolver = new Resolver(loop, settings);
            all.Add(settings, resolver);
        }
        return resolver;
    }

    /// <summary>The configuration with these settings is gone: sockets are closed, who waits is told.</summary>
    public static void Forget(EventLoop loop, ResolverSettings settings)
    {
        if (loop.Slot(s_slot, static _ => []).Remove(settings, out Resolver? resolver))
        {
            resolver.Close();
        }
    }

    /// <summary>The addresses of a name (ASCII, any case).</summary>
    public LoopTask<ResolveOutcome> ResolveAsync(ReadOnlySpan<byte> name) => ResolveAsync(Entry(name, false));

    /// <summary>The service records of a name ("_http._tcp.example.com").</summary>
    public LoopTask<ResolveOutcome> ResolveServiceAsync(ReadOnlySpan<byte> name) => ResolveAsync(Entry(name, true));

    private LoopTask<ResolveOutcome> ResolveAsync(ResolvedName entry)
    {
        if (!entry.IsAsking && entry.ExpiresMs > _loop.NowMs && entry.HasAnswer)
        {
            return new LoopTask<ResolveOutcome>(new ResolveOutcome(entry, 0));
        }
        if (!entry.IsAsking)
        {
            entry.Asked = entry.Name;
            entry.Aliases = 0;
            entry.GiveUpMs = _loop.NowMs + _settings.TimeoutMs;
            entry.IsAsking = true;
            if (!Ask(entry))
            {
                entry.IsAsking = false;
                return new LoopTask<ResolveOutcome>(new ResolveOutcome(null, 3));
            }
        }
        ResolveWait wait = _freeWaits ?? new ResolveWait();
        _freeWaits = wait.Next;
        wait.Next = null;
        entry.Waiters.Add(wait);
        return wait.Begin();
    }

    private ResolvedName Entry(ReadOnlySpan<byte> name, bool isService)
    {
        uint hash = 0;
        foreach (byte c in name)
        {
            hash = System.Numerics.BitOperations.RotateLeft(hash, 5) ^ HeaderName.Lower(c);
        }
        _names.TryGetValue(hash, out ResolvedName? first);
        for (ResolvedName? e = first; e is not null; e = e.NextInBucket)
        {
            if (e.IsService == isService && HeaderName.Same(e.Name, name))
            {
                return e;
            }
        }
        if (_count >= NamesMax)
        {
            Trim();
            _names.TryGetValue(hash, out first);
        }
        var entry = new ResolvedName(this, name.ToArray(), isService) { NextInBucket = first };
        _names[hash] = entry;
        _count++;
        return entry;
    }

    /// <summary>Names can be chosen by clients: what nobody waits for goes when there are too many.</summary>
    private void Trim()
    {
        foreach (uint hash in _names.Keys.ToArray())
        {
            ResolvedName? kept = null;
            for (ResolvedName? e = _names[hash]; e is not null;)
            {
                ResolvedName? next = e.NextInBucket;
                if (e.IsAsking)
                {
                    e.NextInBucket = kept;
                    kept = e;
                }
                else
                {
                    _count--;
                }
                e = next;
            }
            if (kept is null)
            {
                _names.Remove(hash);
            }
            else
            {
                _names[hash] = kept;
            }
        }
    }

    // Questions.

    private bool Ask(ResolvedName entry)
    {
        entry.Found.Clear();
        entry.Ttl = uint.MaxValue;
        entry.Code = 0;
        entry.PendingAnswers = 0;
        entry.FoundServices.Clear();
        bool sent = true;
        if (_settings.Inet || entry.IsService)
        {
            sent &= Ask(entry, entry.IsService ? DnsType.Srv : DnsType.A, ref entry.IdInet);
        }
        if (_settings.Inet6 && !entry.IsService)
        {
            sent &= Ask(entry, DnsType.Aaaa, ref entry.IdInet6);
        }
        if (!sent)
        {
            Withdraw(entry);
            return false;
        }
        _loop.Timers.Set(entry, Math.Min(entry.GiveUpMs, _loop.NowMs + RepeatMs));
        return true;
    }

    private bool Ask(ResolvedName entry, DnsType type, ref ushort id)
    {
        Span<byte> random = stackalloc byte[2];
        do
        {
            _loop.FillRandom(random);
            id = (ushort)(random[0] << 8 | random[1]);
        }
        while (id == 0 || _questions.ContainsKey(id));
        if (Send(entry.Asked, type, id))
        {
            _questions.Add(id, entry);
            entry.PendingAnswers++;
            return true;
        }
        return false;
    }

    /// <summary>Sends one question. False when the name is none.</summary>
    private bool Send(byte[] name, DnsType type, ushort id)
    {
        Span<byte> query = stackalloc byte[DnsCodec.QueryMax];
        int length = name.Length > DnsCodec.NameMax ? 0 : DnsCodec.WriteQuery(id, name, type, query);
        if (length == 0)
        {
            return false;
        }
        int at = _server % _sockets.Length;
        _sockets[at] ??= _loop.OpenDatagram(_settings.Servers[at], OnAnswer, out int _);
        // A question that is lost is asked again by the timer.
        _sockets[at]?.Send(query[..length]);
        return true;
    }

    internal void OnTimer(ResolvedName entry)
    {
        if (!entry.IsAsking)
        {
            return;
        }
        if (_loop.NowMs >= entry.GiveUpMs)
        {
            Finish(entry, HasFound(entry) ? 0 : ResolveOutcome.TimedOut);
            return;
        }
        _server++;
        if (entry.IdInet != 0)
        {
            Send(entry.Asked, entry.IsService ? DnsType.Srv : DnsType.A, entry.IdInet);
        }
        if (entry.IdInet6 != 0)
        {
            Send(entry.Asked, DnsType.Aaaa, entry.IdInet6);
        }
        _loop.Timers.Set(entry, Math.Min(entry.GiveUpMs, _loop.NowMs + RepeatMs));
    }

    private void Withdraw(ResolvedName entry)
    {
        if (entry.IdInet != 0)
        {
            _questions.Remove(entry.IdInet);
        }
        if (entry.IdInet6 != 0)
        {
            _questions.Remove(entry.IdInet6);
        }
        entry.IdInet = 0;
        entry.IdInet6 = 0;
        entry.PendingAnswers = 0;
    }

    // Answers.

    private void OnAnswer(ReadOnlySpan<byte> message)
    {
        if (message.Length < DnsCodec.HeaderLength)
        {
            return;
        }
        ushort id = (ushort)(message[0] << 8 | message[1]);
        if (_questions.TryGetValue(id, out ResolvedName? entry))
        {
            OnAnswer(entry, id, message, isStream: false);
        }
    }

    private void OnAnswer(ResolvedName entry, ushort id, ReadOnlySpan<byte> message, bool isStream)
    {
        bool inet = entry.IdInet == id;
        DnsType type = entry.IsService ? DnsType.Srv : inet ? DnsType.A : DnsType.Aaaa;
        Span<DnsRecord> records = stackalloc DnsRecord[RecordsMax];
        DnsOutcome outcome = DnsCodec.ReadAnswer(message, id, entry.Asked, type, records, out DnsAnswer answer);
        switch (outcome)
        {
            case DnsOutcome.Foreign or DnsOutcome.Malformed when !isStream:
                return;
            case DnsOutcome.Truncated when !isStream:
                AskOverStream(entry, id, type);
                return;
            case DnsOutcome.Alias when ++entry.Aliases <= AliasesMax:
                FollowAlias(entry, message, answer.Alias);
                return;
            case DnsOutcome.Ok:
                for (int i = 0; i < Math.Min(answer.Count, records.Length); i++)
                {
                    Take(entry, message, in records[i]);
                }
                if (answer.Count > 0)
                {
                    entry.Ttl = Math.Min(entry.Ttl, answer.TtlMin);
                }
                else if (entry.Code == 0)
                {
                    entry.Code = 3;
                }
                break;
            case DnsOutcome.Refused:
                entry.Code = answer.ResponseCode;
                break;
            default:
                entry.Code = 2;
                break;
        }
        _questions.Remove(id);
        if (inet)
        {
            entry.IdInet = 0;
        }
        else
        {
            entry.IdInet6 = 0;
        }
        if (--entry.PendingAnswers == 0)
        {
            Finish(entry, HasFound(entry) ? 0 : entry.Code == 0 ? 3 : entry.Code);
        }
    }

    private static bool HasFound(ResolvedName entry) => entry.Found.Count > 0 || entry.FoundServices.Count > 0;

    private static void Take(ResolvedName entry, ReadOnlySpan<byte> message, in DnsRecord record)
    {
        if (!entry.IsService)
        {
            entry.Found.Add(record.Data.Of(message).ToArray());
            return;
        }
        Span<byte> target = stackalloc byte[DnsCodec.NameMax];
        // RFC 2782: the root as target says that the service is not to be had.
        if (DnsCodec.ReadName(message, record.TargetOffset, target, out int length, out int _) && length > 0)
        {
            entry.FoundServices.Add(new ServiceTarget(record.Priority, record.Weight, record.Port,
                System.Text.Encoding.Latin1.GetString(target[..length])));
        }
    }

    /// <summary>The same question on a connection; a repeated datagram starts no second one.</summary>
    private void AskOverStream(ResolvedName entry, ushort id, DnsType type)
    {
        if (_streams.Exists(s => s.Id == id))
        {
            return;
        }
        var stream = new ResolverStream(this, id);
        _streams.Add(stream);
        stream.AskAsync(_loop, _settings.Servers[_server % _sockets.Length], entry.Asked, type, entry.GiveUpMs)
            .Forget();
    }

    /// <summary>What came over the connection; nothing when the server could not be asked so.</summary>
    internal void OnStreamEnd(ResolverStream stream, ReadOnlySpan<byte> message)
    {
        if (_streams.Remove(stream) && _questions.TryGetValue(stream.Id, out ResolvedName? entry))
        {
            OnAnswer(entry, stream.Id, message, isStream: true);
        }
    }

    private void FollowAlias(ResolvedName entry, ReadOnlySpan<byte> message, int alias)
    {
        Span<byte> name = stackalloc byte[DnsCodec.NameMax];
        Withdraw(entry);
        if (!DnsCodec.ReadName(message, alias, name, out int length, out int _) || length == 0)
        {
            Finish(entry, 2);
            return;
        }
        entry.Asked = name[..length].ToArray();
        if (!Ask(entry))
        {
            Finish(entry, 2);
        }
    }

    private void Finish(ResolvedName entry, int code)
    {
        Withdraw(entry);
        _loop.Timers.Cancel(entry);
        entry.IsAsking = false;
        if (code == 0)
        {
            entry.Addresses = [.. entry.Found];
            entry.Services = [.. entry.FoundServices];
            entry.Version++;
            long seconds = _settings.ValidSec > 0 ? _settings.ValidSec : Math.Min(entry.Ttl, int.MaxValue);
            entry.ExpiresMs = _loop.NowMs + seconds * 1000;
        }
        var outcome = new ResolveOutcome(code == 0 ? entry : null, code);
        List<ResolveWait> waiters = entry.Waiters;
        entry.Waiters = entry.Spare;
        entry.Spare = waiters;
        foreach (ResolveWait wait in waiters)
        {
            wait.SetResult(outcome);
            wait.Next = _freeWaits;
            _freeWaits = wait;
        }
        waiters.Clear();
    }

    private void Close()
    {
        foreach (ResolvedName first in _names.Values.ToArray())
        {
            for (ResolvedName? e = first; e is not null; e = e.NextInBucket)
            {
                if (e.IsAsking)
                {
                    Finish(e, ResolveOutcome.TimedOut);
                }
            }
        }
        foreach (DatagramSocket? socket in _sockets)
        {
            socket?.Dispose();
        }
        ResolverStream[] streams = [.. _streams];
        _streams.Clear();
        foreach (ResolverStream stream in streams)
        {
            stream.Close();
        }
    }
}
