// A session that a client may go on with at its next connection: the newest that the server gave. Owned by whoever
// connects; a session that uses it offers it and replaces it.
namespace Weir.Tls;

/// <summary>A place for one session.</summary>
public sealed class TlsSavedSession : IDisposable
{
    private nint _session;
    private bool _isDisposed;

    /// <summary>Takes over the reference; false when it is not wanted.</summary>
    internal bool Keep(nint session)
    {
        if (_isDisposed)
        {
            return false;
        }
        Free();
        _session = session;
        return true;
    }

    internal void Offer(nint ssl)
    {
        if (_session != 0)
        {
            Native.SSL_set_session(ssl, _session);
        }
    }

    private void Free()
    {
        if (_session != 0)
        {
            Native.SSL_SESSION_free(_session);
            _session = 0;
        }
    }

    public void Dispose()
    {
        _isDisposed = true;
        Free();
    }
}
