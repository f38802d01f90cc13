// Whether what clients heard under a plan is what they must hear. Without faults: what the calm run gave, byte for byte
// (or decoded, where chunks and compression blocks may fall elsewhere). With faults: that, or a part of it that a cut
// connection explains, or an answer that says what went wrong. Dates of the virtual clock are masked.
using System.Text;
using Weir.Tests.Harness;
using Weir.Tests.Harness.Cases;

namespace Weir.Tests.Simulation;

internal static class Judge
{
    private const int DateLength = 29;

    /// <summary>Null, or what is wrong.</summary>
    internal static string? Compare(Case one, Outcome calm, Outcome run, int copies, bool isWhole)
    {
        if (run.Violations.Count > 0)
        {
            return string.Join('\n', run.Violations);
        }
        for (int i = 0; i < run.Heard.Count; i++)
        {
            Heard expected = calm.Heard[i / copies];
            Heard heard = run.Heard[i];
            if (IsExact(expected, heard, calm.Around, run.Around))
            {
                continue;
            }
            if (run.Faults == 0)
            {
                return $"client {i} heard something else\n--- heard\n{Written(heard, run.Around)}--- calm\n"
                    + Written(expected, calm.Around);
            }
            if (!IsCut(expected, heard) && WhyNotSound(heard) is { } why)
            {
                return $"client {i} heard what {run.Faults} faults do not explain: {why}\n--- heard\n"
                    + $"{Written(heard, run.Around)}--- calm\n{Written(expected, calm.Around)}";
            }
        }
        if (run.Faults > 0)
        {
            return null;
        }
        string[] asked = Sorted(calm.Requests, calm.Around, copies);
        string[] reached = Sorted(run.Requests, run.Around, 1);
        if (!asked.AsSpan().SequenceEqual(reached))
        {
            return $"the origin received something else\n--- received\n{string.Join('\n', reached)}\n--- calm\n"
                + string.Join('\n', asked);
        }
        // What is refused in the middle of a line is logged as far as it had come.
        return one.ComparesAccessLog && copies == 1 && isWhole && Lines(calm) != Lines(run)
            ? $"the access log differs\n{run.AccessLog}--- calm\n{calm.AccessLog}" : null;
    }

    private static string Lines(Outcome outcome) => string.Join('\n',
        Transcript.Normalise(outcome.AccessLog, outcome.Around).Split('\n').Order(StringComparer.Ordinal));

    private static string Written(Heard heard, Surroundings around) =>
        Transcript.Of(heard.Bytes, heard.Talk, heard.IsOver, around);

    private static string[] Sorted(IReadOnlyList<byte[]> requests, Surroundings around, int copies) =>
        [.. requests.SelectMany(r => Enumerable.Repeat(Transcript.Of([Masked(r)], around), copies))
            .Order(StringComparer.Ordinal)];

    private static bool IsExact(Heard expected, Heard heard, Surroundings around, Surroundings own) =>
        expected.IsOver == heard.IsOver
        && (Masked(expected.Bytes).AsSpan().SequenceEqual(Masked(heard.Bytes))
            || Transcript.Of(Masked(expected.Bytes), expected.Talk, expected.IsOver, around)
            == Transcript.Of(Masked(heard.Bytes), heard.Talk, heard.IsOver, own));

    private static bool IsCut(Heard expected, Heard heard) =>
        Masked(expected.Bytes).AsSpan().StartsWith(Masked(heard.Bytes));

    /// <summary>Whether the bytes are answers as such: whole ones, and at the end perhaps a part of one on a connection
    /// that has ended or will. Null when they are.</summary>
    private static string? WhyNotSound(Heard heard)
    {
        ReadOnlySpan<byte> rest = heard.Bytes;
        while (rest.Length > 0)
        {
            HttpResponse? response;
            try
            {
                response = HttpResponse.Parse(rest, heard.Talk.IsHead, heard.IsOver);
            }
            catch (FormatException e)
            {
                return e.Message;
            }
            if (response is null)
            {
                return rest.StartsWith("HTTP/1.1 "u8) || "HTTP/1.1 "u8.StartsWith(rest)
                    ? null : "a head without a status";
            }
            if (!response.IsComplete)
            {
                return null;
            }
            rest = rest[response.Raw.Length..];
        }
        return null;
    }

    /// <summary>Dates of this virtual year become stars: a delay may move them by a second.</summary>
    internal static byte[] Masked(byte[] bytes)
    {
        byte[] masked = bytes.ToArray();
        int from = 0;
        while (true)
        {
            int at = masked.AsSpan(from).IndexOf(" 2026 "u8);
            if (at < 0)
            {
                break;
            }
            int start = from + at - 11;
            from += at + 6;
            if (start >= 0 && masked[start + 3] == ',')
            {
                masked.AsSpan(start, Math.Min(DateLength, masked.Length - start)).Fill((byte)'*');
            }
        }
        // A date that a cut left unfinished.
        int last = masked.AsSpan().LastIndexOf(": "u8);
        int line = masked.AsSpan().LastIndexOf((byte)'\n');
        if (last > line && masked.Length - last <= DateLength + 2
            && (masked.AsSpan(line + 1).StartsWith("Date"u8) || masked.AsSpan(line + 1).StartsWith("Expires"u8)))
        {
            masked.AsSpan(last + 2).Fill((byte)'*');
        }
        return masked;
    }
}
