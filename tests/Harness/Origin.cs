// What an origin server does, as data: the same script is played by threads over real sockets (Upstream) and on the
// simulated loop. A script that needs more than these acts is a wire test's own Upstream.
using System.Globalization;

namespace Weir.Tests.Harness;

/// <summary>What an act may look at when it decides what to send.</summary>
/// <param name="Request">The last request read; null when none was.</param>
/// <param name="Index">0 for the first connection.</param>
/// <param name="PortNumber">The origin's port.</param>
public sealed record OriginTurn(UpstreamRequest? Request, int Index, int PortNumber)
{
    public string Port => PortNumber.ToString(CultureInfo.InvariantCulture);
}

/// <summary>One thing that an origin does on a connection.</summary>
public sealed record Act(ActKind Kind, Func<OriginTurn, string>? Text = null, int Ms = 0,
    int Count = 0)
{
    /// <summary>Waits for a whole request; where none comes any more the script is over.</summary>
    public static readonly Act Read = new(ActKind.Read);

    /// <summary>Waits for a request's head and leaves its body unread.</summary>
    public static readonly Act ReadHead = new(ActKind.ReadHead);

    /// <summary>Sends back the next so many bytes that come.</summary>
    public static Act Relay(int bytes) => new(ActKind.Relay, Count: bytes);

    /// <summary>Sends back all that comes until the end.</summary>
    public static readonly Act RelayAll = new(ActKind.RelayAll);

    /// <summary>Keeps the connection until the peer ends it.</summary>
    public static readonly Act Hold = new(ActKind.Hold);

    public static readonly Act Reset = new(ActKind.Reset);

    /// <summary>Ends its own direction and reads on.</summary>
    public static readonly Act HalfClose = new(ActKind.HalfClose);

    public static Act Send(string text) => new(ActKind.Send, _ => text);

    public static Act Send(Func<OriginTurn, string> text) => new(ActKind.Send, text);

    /// <summary>Does nothing for so long.</summary>
    public static Act Wait(int ms) => new(ActKind.Wait, Ms: ms);
}

public enum ActKind
{
    Read,
    ReadHead,
    Send,
    Relay,
    RelayAll,
    Hold,
    Reset,
    HalfClose,
    Wait,
}

/// <summary>A scripted origin: what it does on each of its connections, which close when their script ends.</summary>
/// <param name="Script">The acts of a connection by its index.</param>
/// <param name="Repeats">Whether the acts begin again until the peer ends the connection.</param>
public sealed record Origin(Func<int, IReadOnlyList<Act>> Script, bool Repeats)
{
    public static Origin Of(params Act[] acts) => new(_ => acts, false);

    /// <summary>A script per connection; the last one goes for all that follow.</summary>
    public static Origin PerConnection(params Act[][] scripts) =>
        new(i => scripts[Math.Min(i, scripts.Length - 1)], false);

    /// <summary>Answers every request on every connection with what the function makes of it.</summary>
    public static Origin Answering(Func<UpstreamRequest, string> respond) =>
        new(_ => [Act.Read, Act.Send(t => respond(t.Request!))], true);

    public static Origin Answering(string response) => Answering(_ => response);

    /// <summary>Reads one request, answers and closes.</summary>
    public static Origin AnsweringOnce(string response) => Of(Act.Read, Act.Send(response));
}
