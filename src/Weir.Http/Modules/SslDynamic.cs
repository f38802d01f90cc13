// Certificates whose place is only known while a client's handshake or a request runs: variables in ssl_certificate,
// proxy_ssl_certificate and their kin, and the caches for them (ssl_certificate_cache). Files are read and parsed on
// the blocking threads; what was parsed belongs to the cache, else to the one use. One loop's thread.
using Weir.Conf;
using Weir.Kernel;
using Weir.Kernel.Net;
using Weir.Loop;
using Weir.Session;
using Weir.Tls;

namespace Weir.Http.Modules;

/// <summary>ssl_certificate_cache.</summary>
internal sealed record CertificateCacheRule(int Max, long InactiveSec, long ValidSec)
{
    internal static void Set(DirectiveUse use, ref Inherited<CertificateCacheRule?> setting)
    {
        if (!use.Walker.Fresh(use.Directive, in setting))
        {
            return;
        }
        const long inactiveDefault = 10, validDefault = 60;
        long max = 0, inactive = inactiveDefault, valid = validDefault;
        for (int i = 0; i < use.Count; i++)
        {
            string word = use[i];
            if (word == "off" && use.Count == 1)
            {
                setting.Set(null);
                return;
            }
            bool good = word.StartsWith("max=", StringComparison.Ordinal)
                    && ConfValues.TryNumber(word.AsSpan(4), out max) && max > 0
                || word.StartsWith("inactive=", StringComparison.Ordinal)
                    && ConfValues.TrySec(word.AsSpan(9), out inactive)
                || word.StartsWith("valid=", StringComparison.Ordinal) && ConfValues.TrySec(word.AsSpan(6), out valid);
            if (!good)
            {
                use.InvalidParameter(i);
                return;
            }
        }
        if (max == 0)
        {
            use.Error($"\"{use.Name}\" must have the \"max\" parameter");
            return;
        }
        setting.Set(new CertificateCacheRule((int)Math.Min(max, int.MaxValue), inactive, valid));
    }
}

/// <summary>A parsed pair and how many use it: a cache, and handshakes that have just got it.</summary>
internal sealed class LoadedPair(TlsPair pair)
{
    private int _users = 1;

    internal TlsPair Pair { get; } = pair;
    internal long LoadedMs { get; init; }
    internal long UsedMs { get; set; }

    internal void AddUser() => _users++;

    internal void Release()
    {
        if (--_users == 0)
        {
            Pair.Dispose();
        }
    }
}

/// <summary>Loads pairs by the texts of their places.</summary>
internal sealed class CertificateLoader(string confPrefix, IReadOnlyList<TlsPassword> passwords,
    CertificateCacheRule? rule) : IDisposable
{
    private readonly Dictionary<(string, string), LoadedPair> _kept = [];

    /// <summary>The pair, which the caller releases; null after logging why not.</summary>
    internal async LoopTask<LoadedPair?> LoadAsync(EventLoop loop, string certificate, string key, Action<string> log)
    {
        if (_kept.TryGetValue((certificate, key), out LoadedPair? known))
        {
            if (loop.NowMs - known.LoadedMs < rule!.ValidSec * 1000
                && loop.NowMs - known.UsedMs < rule.InactiveSec * 1000)
            {
                known.UsedMs = loop.NowMs;
                known.AddUser();
                return known;
            }
            _kept.Remove((certificate, key));
            known.Release();
        }
        var load = new Load(confPrefix, certificate, key, passwords);
        await loop.Blocking.RunAsync(load);
        if (load.Pair is not { } pair)
        {
            log(load.Error!);
            return null;
        }
        var loaded = new LoadedPair(pair) { LoadedMs = loop.NowMs, UsedMs = loop.NowMs };
        if (rule is not null && !_isDisposed && _kept.TryAdd((certificate, key), loaded))
        {
            loaded.AddUser();
            Trim(loop.NowMs);
        }
        return loaded;
    }

    /// <summary>The one used longest ago goes first, and those that nobody wants any more.</summary>
    private void Trim(long nowMs)
    {
        (string, string) oldest = default;
        long oldestMs = long.MaxValue;
        foreach (((string, string) place, LoadedPair pair) in _kept)
        {
            if (nowMs - pair.UsedMs >= rule!.InactiveSec * 1000)
            {
                _kept.Remove(place);
                pair.Release();
            }
            else if (pair.UsedMs < oldestMs)
            {
                oldestMs = pair.UsedMs;
                oldest = place;
            }
        }
        if (_kept.Count > rule!.Max && _kept.Remove(oldest, out LoadedPair? last))
        {
            last.Release();
        }
    }

    private bool _isDisposed;

    public void Dispose()
    {
        _isDisposed = true;
        foreach (LoadedPair pair in _kept.Values)
        {
            pair.Release();
        }
        _kept.Clear();
    }

    /// <summary>Reads and parses, away from the loop.</summary>
    private sealed class Load(string confPrefix, string certificate, string key, IReadOnlyList<TlsPassword> passwords)
        : BlockingOperation
    {
        internal TlsPair? Pair { get; private set; }
        internal string? Error { get; private set; }

        protected override void Work()
        {
            if (Read(certificate, "certificate", out string name) is { } pem
                && ReadKey(out string keyName) is { } keyPem)
            {
                Pair = TlsPair.Read(name, pem, keyName, keyPem, passwords, out string? error);
                Error = error;
            }
        }

        /// <summary>The bytes of the key; none where OpenSSL opens its place.</summary>
        private byte[]? ReadKey(out string name)
        {
            name = key;
            return TlsKeyPlaces.Is(key) ? [] : Read(key, "certificate key", out name);
        }

        private byte[]? Read(string place, string what, out string name)
        {
            name = place;
            if (place.StartsWith(SslContexts.DataScheme, StringComparison.Ordinal))
            {
                return System.Text.Encoding.Latin1.GetBytes(place[SslContexts.DataScheme.Length..]);
            }
            name = place.StartsWith('/') ? place : Path.Join(confPrefix, place);
            string path = System.Text.Encoding.UTF8.GetString(System.Text.Encoding.Latin1.GetBytes(name));
            SysResult fd = Sys.Open(path, Sys.O_RDONLY);
            if (!fd.IsError)
            {
                Sys.Close(fd.Int);
                try
                {
                    return File.ReadAllBytes(path);
                }
                catch (Exception e) when (e is IOException or UnauthorizedAccessException)
                {
                    fd = SysResult.Error(Errno.EIO);
                }
            }
            Error = $"cannot load {what} \"{name}\": BIO_new_file() failed"
                + SslContexts.OpenFailure(name, fd.Errno, Errno.Describe(fd.Errno));
            return null;
        }
    }
}

/// <summary>Finds a server's certificates by variables.</summary>
internal sealed class SslDynamic(Template[] certificates, Template[] keys, CertificateLoader loader) : ITlsCertificates
{
    private static readonly LoopSlot<Stack<HttpRequest>> s_spare = new();

    public async LoopTask<bool> FindAsync(TlsSession session)
    {
        var entrance = (TlsEntrance)session.Owner!;
        EventLoop loop = entrance.Connection.Loop;
        (string Certificate, string Key)[] places = Evaluate(entrance);
        foreach ((string certificate, string key) in places)
        {
            LoadedPair? loaded = await loader.LoadAsync(loop, certificate, key, entrance.LogError);
            if (loaded is null || entrance.Connection.IsClosed)
            {
                loaded?.Release();
                return false;
            }
            string? error = loaded.Pair.UseIn(session);
            loaded.Release();
            if (error is not null)
            {
                entrance.LogError(error);
                return false;
            }
        }
        return true;
    }

    /// <summary>Variables belong to requests: one that has no head yet stands in.</summary>
    private (string Certificate, string Key)[] Evaluate(TlsEntrance entrance)
    {
        EventLoop loop = entrance.Connection.Loop;
        Stack<HttpRequest> spare = loop.Slot(s_spare, static _ => []);
        HttpRequest r = spare.TryPop(out HttpRequest? kept) ? kept : new HttpRequest();
        r.Begin(entrance.Configuration, entrance.Group, new HandshakeStream(entrance.Connection), loop);
        var places = new (string, string)[certificates.Length];
        for (int i = 0; i < places.Length; i++)
        {
            places[i] = (Text(certificates[i].Evaluate(r)), Text(keys[i].Evaluate(r)));
        }
        r.End();
        r.Forget();
        spare.Push(r);
        return places;
    }

    internal static string Text(NativeSlice value) => System.Text.Encoding.Latin1.GetString(value.Span);

    /// <summary>Only says whose handshake it is.</summary>
    private sealed class HandshakeStream(Connection connection) : DetachedStream(connection.Loop)
    {
        public override Connection Transport => connection;
    }
}
