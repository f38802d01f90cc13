// A script's calm run written down as the differential tests write down a real server's: the simulated server must read
// as the binary does.
using System.Text;
using Weir.Tests.Harness.Cases;

namespace Weir.Tests.Simulation;

/// <summary>Scripts played in this process.</summary>
public static class Simulated
{
    /// <summary>Every talk, what the origin received, and the access log where it is compared.</summary>
    public static string Transcribe(Case one)
    {
        using var place = new Place();
        Outcome outcome = World.Play(one, null, place);
        var text = new StringBuilder();
        foreach (Heard heard in outcome.Heard)
        {
            text.Append(Transcript.Of(heard.Bytes, heard.Talk, heard.IsOver, outcome.Around)).Append("=====\n");
        }
        if (one.Origin is not null)
        {
            text.Append("----- the upstream received\n").Append(Transcript.Of(outcome.Requests, outcome.Around));
        }
        if (one.ComparesAccessLog)
        {
            text.Append("----- access.log\n").Append(Transcript.Normalise(outcome.AccessLog, outcome.Around));
        }
        return text.ToString();
    }
}
