// The first steps of a client's request, the same for every protocol: which server it is for, and what must be true
// before its phases run. One loop's thread; keeps nothing.
using Weir.Kernel;
using Weir.Protocol.Http1;

namespace Weir.Http;

internal static class RequestEntry
{
    /// <summary>Finds the server that the request's host names on its address, and asks what TLS has to say. False when
    /// the request is to be answered with <paramref name="status"/>.</summary>
    internal static bool ChooseServer(HttpRequest r, out int status)
    {
        status = 0;
        ListenGroup group = r.Group.Of(r.Connection);
        if (group != r.Group)
        {
            r.Server = group.DefaultServer;
        }
        if (r.RepeatsHost && !group.Names.HasRegexes)
        {
            r.Server = r.ServerBefore!;
        }
        else if (!group.Names.IsEmpty && !r.Host.IsEmpty)
        {
            NativeSlice host = r.Host;
            if (host.Span[^1] == '.')
            {
                host = host.Slice(0, host.Length - 1);
            }
            ServerConf? server = group.Names.Find(r, host, out bool failed);
            if (failed)
            {
                status = 500;
                return false;
            }
            if (server is not null)
            {
                r.Server = server;
            }
        }
        r.EnterServer();
        if (group.Tls || r.Tls is not null)
        {
            status = TlsEntrance.Check(r);
        }
        return status == 0;
    }

    /// <summary>Refuses methods that no server answers and paths that cannot be normalised: the status to answer with,
    /// or 0.</summary>
    internal static int CheckTarget(HttpRequest r)
    {
        if (r.Method is HttpMethod.Trace or HttpMethod.Connect)
        {
            r.LogAction = "reading client request headers";
            r.LogError(LogLevel.Info, r.Method == HttpMethod.Trace
                ? "client sent TRACE method" : "client sent CONNECT method");
            r.LogAction = null;
            return 405;
        }
        if (!r.NormalizeUri())
        {
            r.LogAction = "reading client request line";
            r.LogError(LogLevel.Info, "client sent invalid request");
            r.LogAction = null;
            return 400;
        }
        if (r.IsTold)
        {
            r.TellHead();
        }
        return 0;
    }
}
