// What nginx still treats differently by the User-Agent header: pages padded for browsers that replace short ones,
// keep-alive that old ones get wrong. Looked at only where a setting asks for it; keeps nothing.
using Weir.Protocol.Http1;

namespace Weir.Http;

internal static class UserAgents
{
    internal static bool IsMsie(HttpRequest r)
    {
        ReadOnlySpan<byte> agent = Of(r);
        int msie = agent.IndexOf("MSIE "u8);
        return msie >= 0 && msie + 7 < agent.Length && agent.IndexOf("Opera"u8) < 0;
    }

    /// <summary>Browsers that get a padded error page.</summary>
    internal static bool WantsPadding(HttpRequest r)
    {
        ReadOnlySpan<byte> agent = Of(r);
        return agent.IndexOf("Chrome/"u8) >= 0 && agent.IndexOf("Opera"u8) < 0 && agent.IndexOf("Gecko/"u8) < 0
            || IsMsie(r);
    }

    /// <summary>MSIE up to 6 without its second service pack.</summary>
    internal static bool IsMsie6(HttpRequest r)
    {
        if (!IsMsie(r))
        {
            return false;
        }
        ReadOnlySpan<byte> agent = Of(r);
        ReadOnlySpan<byte> version = agent[(agent.IndexOf("MSIE "u8) + 5)..];
        return version[1] == '.' && (version[0] is (byte)'4' or (byte)'5' || version[0] == '6'
            && version.IndexOf("SV1"u8) < 0);
    }

    internal static bool IsSafari(HttpRequest r)
    {
        ReadOnlySpan<byte> agent = Of(r);
        return agent.IndexOf("Safari/"u8) >= 0 && agent.IndexOf("Mac OS X"u8) >= 0 && agent.IndexOf("Chrome/"u8) < 0
            && agent.IndexOf("Gecko/"u8) < 0 && agent.IndexOf("Opera"u8) < 0 && !IsMsie(r);
    }

    private static ReadOnlySpan<byte> Of(HttpRequest r) => r.HeadBytes.IsEmpty ? default
        : r.Header(KnownHeader.UserAgent).Span;
}
