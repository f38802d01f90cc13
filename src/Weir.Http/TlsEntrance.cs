// How a client comes in through TLS: the first byte tells TLS from plain HTTP, the handshake runs under
// client_header_timeout, the name in it chooses the certificates. One object for each accepted connection, until the
// handshake is over. Also what a request on such an address has to pass: 497, 421, 495 and 496.
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;
using Weir.Tls;

namespace Weir.Http;

/// <summary>Chooses certificates by name for one listening address.</summary>
internal sealed class TlsServerNames(ListenGroup group, NativeSlice http1, NativeSlice http2) : ITlsNames
{
    /// <summary>Some server of the address takes early data.</summary>
    internal bool TakesEarlyData { get; init; }

    public TlsContext? Choose(TlsSession session, ReadOnlySpan<byte> name)
    {
        ServerConf? named = name.IsEmpty ? null : group.Names.Find(name);
        session.IsNameKnown = named is not null;
        ServerConf server = named ?? group.DefaultServer;
        return server.RejectsHandshakes ? null : server.Tls ?? session.Context;
    }

    private ServerConf Find(ReadOnlySpan<byte> name) =>
        (name.IsEmpty ? null : group.Names.Find(name)) ?? group.DefaultServer;

    /// <summary>The server that the client named says whether it speaks HTTP/2.</summary>
    public NativeSlice Alpn(TlsSession session)
    {
        if (group.Http2)
        {
            return http2;
        }
        Span<byte> name = stackalloc byte[256];
        int length = session.Write(TlsFact.ServerName, name);
        name = name[..(length <= name.Length ? length : 0)];
        foreach (ref byte c in name)
        {
            c = HeaderName.Lower(c);
        }
        return Find(name).Http2.Enabled.Value ? http2 : http1;
    }
}

internal sealed class TlsEntrance
{
    private readonly HttpServer _server;
    private readonly ListenGroup _group;

    internal TlsEntrance(HttpServer server, Connection connection, ListenGroup group, BufferSlab? input, int start,
        int end)
    {
        _server = server;
        _group = group;
        Connection = connection;
        Input = input;
        Start = start;
        End = end;
    }

    internal ListenGroup Group => _group;

    /// <summary>The configuration that the handshake belongs to.</summary>
    internal HttpConfiguration Configuration { get; private set; } = null!;

    /// <summary>The connection to go on with: TLS, or the plain one when the client does not speak TLS.</summary>
    internal Connection Connection { get; private set; }

    /// <summary>Bytes of a plain request.</summary>
    internal BufferSlab? Input { get; private set; }
    internal int Start { get; private set; }
    internal int End { get; private set; }

    /// <summary>False when the connection has to be closed. A configuration that is replaced meanwhile lives until the
    /// handshake is over: names, certificates and zones are its own.</summary>
    internal async LoopTask<bool> EnterAsync()
    {
        HttpConfiguration configuration = _group.Configuration;
        Configuration = configuration;
        configuration.AddReference();
        try
        {
            return await ShakeAsync();
        }
        finally
        {
            if (Connection is TlsConnection { IsClosed: false, Session: { IsEarly: true } session })
            {
                // Requests come first; the rest of the handshake needs it all still.
                session.HandshakeEnded = configuration.Release;
            }
            else
            {
                configuration.Release();
            }
        }
    }

    private async LoopTask<bool> ShakeAsync()
    {
        EventLoop loop = _server.Loop;
        long due = loop.NowMs + _group.DefaultServer.ClientHeaderTimeoutMs.Value;
        if (Start == End)
        {
            Connection.SetReadDeadline(due);
            RecvLease lease = await Connection.ReceiveAsync();
            if (lease.IsError || lease.IsEnd)
            {
                return false;
            }
            Input = lease.Slab;
            Start = 0;
            End = lease.Length;
        }
        byte first = Input!.Span[Start];
        const byte handshakeRecord = 0x16, ssl2Bit = 0x80;
        if (first != handshakeRecord && (first & ssl2Bit) == 0)
        {
            return true;
        }
        TlsSession? session = _group.DefaultServer.Tls is { } context ? TlsSession.Accept(context) : null;
        if (session is null)
        {
            return false;
        }
        session.Names = _group.TlsNames;
        session.Owner = this;
        if (_group.TlsNames is TlsServerNames { TakesEarlyData: true })
        {
            session.TakeEarlyData();
        }
        var secure = new TlsConnection(Connection, session, Input, Start, End);
        Input = null;
        Start = 0;
        End = 0;
        Connection = secure;
        int error = await secure.HandshakeAsync(due);
        if (error == 0 && session.Chosen.Owner is Modules.ClientOcsp ocsp)
        {
            await ocsp.CheckAsync(this, session);
            error = secure.IsClosed ? Errno.ECANCELED : 0;
        }
        session.Owner = null;
        if (error == 0)
        {
            return true;
        }
        Log(secure, error);
        return false;
    }

    private string Context => $"while SSL handshaking, client: {HttpRequest.FormatAddress(Connection.PeerAddress)}"
        + $", server: {_group.Spec.Address}";

    /// <summary>Something on this side keeps a handshake from going on.</summary>
    internal void LogError(string message) =>
        _server.Log.Write(LogLevel.Error, $"{message} {Context}", 0, Connection.Number);

    private void Log(TlsConnection connection, int error)
    {
        if (error == Errno.ECANCELED)
        {
            return;
        }
        string client = Context;
        TlsSession session = connection.Session;
        switch (error)
        {
            case Errno.EPROTO:
                // What a client did wrong is told at info, as nginx tells it.
                _server.Log.Write(LogLevel.Info, session.WasRefused
                    ? $"handshake rejected {client}" : $"SSL_do_handshake() failed{session.Error} {client}", 0,
                    connection.Number);
                break;
            case Errno.ECONNRESET when !connection.PeerClosed || connection.SendError == 0:
                // The end of the stream is no error with a number.
                string number = connection.PeerClosed ? "" : Numbered(error);
                _server.Log.Write(LogLevel.Info, $"peer closed connection in SSL handshake{number} {client}", 0,
                    connection.Number);
                break;
            case Errno.ETIMEDOUT:
                _server.Log.Write(LogLevel.Info, $"client timed out{Numbered(error)} {client}", 0,
                    connection.Number);
                break;
            default:
                _server.Log.Write(LogLevel.Info, $"SSL_do_handshake() failed{Numbered(error)} {client}", 0,
                    connection.Number);
                break;
        }
    }

    private static string Numbered(int error) => $" ({error}: {Errno.Describe(error)})";

    internal const int TooEarly = 425;

    /// <summary>Whether the request may go on to its server: 0, or the status to answer with.</summary>
    internal static int Check(HttpRequest r)
    {
        if (r.Tls is not { } connection)
        {
            r.LogError(LogLevel.Info, "client sent plain HTTP request to HTTPS port");
            return 497;
        }
        if (connection.Session.IsEarly && r.Method is not (HttpMethod.Get or HttpMethod.Head or HttpMethod.Options))
        {
            // RFC 8470 §3: what may be a copy must not change anything; the client asks again after the handshake.
            r.LogError(LogLevel.Info, "client sent a request that is not safe in early data");
            return TooEarly;
        }
        TlsVerify verify = r.Server.Tls?.Verify ?? TlsVerify.Off;
        if (verify == TlsVerify.Off)
        {
            return 0;
        }
        int status = TlsClientCheck.Judge(connection.Session, verify, r.Host.Span, out int result);
        switch (status)
        {
            case TlsClientCheck.Misdirected:
                r.LogError(LogLevel.Info,
                    "client attempted to request the server name different from the one that was negotiated");
                break;
            case TlsClientCheck.BadCertificate when r.Logs(LogLevel.Info):
                string why = connection.Session.StatusFault is { } fault && result == 0 ? fault
                    : $"({result}:{System.Text.Encoding.ASCII.GetString(TlsSession.VerifyText(result))})";
                r.LogError(LogLevel.Info, $"client SSL certificate verify error: {why}");
                break;
            case TlsClientCheck.NoCertificate:
                r.LogError(LogLevel.Info, "client sent no required SSL certificate");
                break;
        }
        return status;
    }
}
