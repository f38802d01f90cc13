// A connection written down so that two servers can be compared: status lines, headers in their order, bodies, what was
// left over and how it ended, with what may rightly differ (dates, the server's name, ports) replaced by a mark.
using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;

namespace Weir.Tests.Harness.Cases;

/// <summary>What of a server's surroundings stands in its answers and is replaced by its placeholder.</summary>
public sealed record Surroundings(string Dir, string Files, int Port, int UpstreamPort)
{
    public static Surroundings Of(ServerProcess server, int upstreamPort) =>
        new(server.Dir.Path, server.Files.Path, server.Port, upstreamPort);
}

/// <summary>Writes connections down.</summary>
public static partial class Transcript
{
    /// <summary>What came on a connection and how it stands after that.</summary>
    public static string Of(byte[] bytes, Talk talk, bool ended, Surroundings around) =>
        Normalise(Render(bytes, talk.IsHead, ended), around) + (ended ? "<closed>\n" : "<open>\n");

    /// <summary>Runs one connection against a server.</summary>
    public static string Of(ServerProcess server, int upstreamPort, Talk talk, int patience)
    {
        using RawClient client = server.Connect();
        bool sentAll = true;
        foreach (byte[] piece in talk.Pieces)
        {
            if (talk.AwaitsBetween && piece != talk.Pieces[0])
            {
                client.WaitForBytes(talk.FirstMs);
            }

            sentAll = sentAll && Piece(client, piece);
        }

        if (talk.HalfClose && sentAll)
        {
            client.HalfClose();
        }

        // Every talk of the table ends in an answer or an end, however slow the machine is today.
        client.WaitForBytes(talk.FirstMs);
        byte[] bytes = client.ReadUntilQuiet(talk.QuietMs * patience);
        // A reset may overtake the bytes or not, and may itself come instead of a close when input was left unread.
        return Of(bytes, talk, client.Ending != Ending.Open, Surroundings.Of(server, upstreamPort));
    }

    /// <summary>What an upstream received.</summary>
    public static string Of(IEnumerable<byte[]> requests, Surroundings around)
    {
        var text = new StringBuilder();
        foreach (byte[] request in requests)
        {
            text.Append(Visible(Encoding.Latin1.GetString(request))).Append("<end of request>\n");
        }

        return Normalise(text.ToString(), around);
    }

    /// <summary>Ports, dates and names replaced.</summary>
    public static string Normalise(string text, Surroundings around)
    {
        text = text.Replace(around.Dir, "%DIR%").Replace(around.Files, "%FILES%");
        text = text.Replace(":" + around.Port.ToString(CultureInfo.InvariantCulture), ":%PORT%");
        if (around.UpstreamPort != 0)
        {
            text = text.Replace(":" + around.UpstreamPort.ToString(CultureInfo.InvariantCulture), ":%UPSTREAM%");
        }

        text = DateHeader().Replace(text, "Date: *");
        text = ServerHeader().Replace(text, "Server: *");
        text = Center().Replace(text, "<center>*</center>");
        text = Boundary().Replace(text, "%BOUNDARY%");
        return text;
    }

    private static bool Piece(RawClient client, byte[] piece)
    {
        try
        {
            client.SendSplit(piece);
            return true;
        }
        catch (System.Net.Sockets.SocketException)
        {
            // The server refused before it had everything; what it answered is still to be read.
            return false;
        }
    }

    private static string Render(byte[] bytes, bool isHead, bool ended)
    {
        var text = new StringBuilder();
        ReadOnlySpan<byte> rest = bytes;
        while (rest.Length > 0)
        {
            HttpResponse? response;
            try
            {
                response = HttpResponse.Parse(rest, isHead, ended);
            }
            catch (FormatException)
            {
                response = null;
            }

            if (response is null)
            {
                text.Append("<not a response> ").Append(Visible(Encoding.Latin1.GetString(rest)));
                break;
            }

            Render(response, isHead, text);
            rest = rest[response.Raw.Length..];
        }

        return text.ToString();
    }

    private static void Render(HttpResponse response, bool isHead, StringBuilder text)
    {
        text.Append(CultureInfo.InvariantCulture, $"{response.Version} {response.Status} {response.Reason}\n");
        byte[] body = response.Decoded();
        string shown = Encoding.Latin1.GetString(body);
        foreach ((string name, string value) in response.Headers)
        {
            // The server's name stands in generated pages and changes their length; the body is compared anyway.
            bool measuresName = name == "Content-Length"
                && ((isHead && response.Status >= 300) || shown.Contains("<center>", StringComparison.Ordinal));
            text.Append(name).Append(": ").Append(measuresName ? "*" : Visible(value)).Append('\n');
        }

        text.Append('\n').Append(Visible(shown));
        foreach ((string name, string value) in response.Trailers)
        {
            text.Append("\n<trailer> ").Append(name).Append(": ").Append(value);
        }

        text.Append(response.IsComplete ? "\n<end of response>\n" : "\n<incomplete>\n");
    }

    private static string Visible(string text)
    {
        var shown = new StringBuilder(text.Length);
        foreach (char c in text)
        {
            if (c is >= ' ' and < (char)127 or '\n')
            {
                shown.Append(c);
            }
            else
            {
                shown.Append(CultureInfo.InvariantCulture, $"\\x{(int)c:x2}");
            }
        }

        // Long bodies of the table are runs of one letter, told by their length.
        return Run().Replace(shown.ToString(), m => string.Create(CultureInfo.InvariantCulture,
            $"{m.Value[0]}×{m.Length}"));
    }

    [GeneratedRegex(@"(\S)\1{200,}")]
    private static partial Regex Run();

    [GeneratedRegex("^Date: [^\n]*", RegexOptions.Multiline)]
    private static partial Regex DateHeader();

    [GeneratedRegex("^Server: [^\n]*", RegexOptions.Multiline)]
    private static partial Regex ServerHeader();

    [GeneratedRegex("<center>(?:nginx|weir)[^<]*</center>")]
    private static partial Regex Center();

    // nginx's boundaries are 20 digits.
    [GeneratedRegex("(?<=boundary=|--)0[0-9]{19}")]
    private static partial Regex Boundary();
}
