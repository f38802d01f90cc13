// Serves all rows with one process and asks each server of them.
using System.Collections.Concurrent;
using System.Globalization;
using System.IO.Compression;
using System.Net;
using System.Text;
using System.Text.RegularExpressions;

namespace Weir.Tests.Harness.Rows;

/// <summary>The table, and how it is run.</summary>
public static partial class RowTable
{
    private const int QuietMs = 500;
    private const int PatientMs = 30_000;
    private const int ShownChars = 20_000;

    public static readonly Row[] All = [.. CoreRows.All, .. BodyRows.All, .. OriginRows.All, .. TlsRows.All];

    /// <summary>What is wrong, a text per row; none for a table that holds.</summary>
    public static string[] Run(string binary, Row[] rows)
    {
        bool isNginx = Path.GetFileName(binary) == "nginx";
        var answers = new Dictionary<string, string?>();
        for (int i = 0; i < rows.Length; i++)
        {
            foreach (string letter in new[] { "a", "b" })
            {
                answers[$"r{i}{letter}"] = rows[i].Up?.Replace("%ID%", $"r{i}{letter}", StringComparison.Ordinal);
            }
        }
        using var origins = new RowOrigins(id => answers.GetValueOrDefault(id));
        using var files = new TempDir();
        WriteFiles(files, answers.Keys);
        string text = Text(rows).Replace("%UPHOST%", $"127.0.0.1:{origins.HttpPort}", StringComparison.Ordinal)
            .Replace("%CGI%", $"127.0.0.1:{origins.FastCgiPort}", StringComparison.Ordinal)
            .Replace("%MEM%", $"127.0.0.1:{origins.MemcachedPort}", StringComparison.Ordinal)
            .Replace("%GRPC%", "127.0.0.1:%PORT3%", StringComparison.Ordinal)
            .Replace("%NAMES%", $"127.0.0.1:{origins.NamesPort}", StringComparison.Ordinal)
            .Replace("%SILENT%", $"127.0.0.1:{origins.SilentPort}", StringComparison.Ordinal)
            .Replace("%UPPORT%", $"{origins.HttpPort}", StringComparison.Ordinal)
            .Replace("%FULL%", $"127.0.0.1:{origins.FullPort}", StringComparison.Ordinal);
        using var server = ServerProcess.Start(binary, Conf.Full(text), files);
        // The server listens at one address after the other.
        Wait.For("the last address", () =>
        {
            try
            {
                using var last = RawClient.Connect(Address(server, rows.Length - 1, "b"));
                return true;
            }
            catch (System.Net.Sockets.SocketException)
            {
                return false;
            }
        });
        var wrong = new ConcurrentBag<string>();
        Parallel.For(0, rows.Length, new ParallelOptions { MaxDegreeOfParallelism = 16 }, i =>
        {
            string? a = Check(server, origins, rows[i], i, "a", rows[i].SaysA, isNginx, out string toldA);
            string? b = Check(server, origins, rows[i], i, "b", rows[i].SaysB, isNginx, out string toldB);
            string? fault = a ?? b ?? (toldA == toldB ? "both values answer the same\n" + toldA : null);
            if (fault is null && rows[i].SaysA == "" && Check(server, origins, rows[i], i, "a", "", isNginx,
                out string again) is null && again != toldA)
            {
                fault = "the same value answers otherwise the second time";
            }
            if (fault is not null)
            {
                wrong.Add($"{rows[i].Directive}: {fault}");
            }
        });
        return [.. wrong.Order()];
    }

    private static string Host(int row, string letter) => $"127.{7 + row / 250}.{row % 250}.{(letter == "a" ? 1 : 2)}";

    private static IPEndPoint Address(ServerProcess server, int row, string letter) =>
        new(IPAddress.Parse(Host(row, letter)), server.Port);

    private static string Expand(string text, Row row, int index, string letter)
    {
        string id = $"r{index}{letter}";
        return text.Replace("%V", letter == "a" ? row.A : row.B, StringComparison.Ordinal)
            .Replace("%UP%", "%UPHOST%/" + id, StringComparison.Ordinal)
            .Replace("%LOG%", $"%DIR%/{id}.log", StringComparison.Ordinal)
            .Replace("%HOST%", Host(index, letter), StringComparison.Ordinal)
            .Replace("%ID%", id, StringComparison.Ordinal);
    }

    private static string Text(Row[] rows)
    {
        var text = new StringBuilder("""
            daemon off; master_process off; user root; pid %DIR%/server.pid; error_log %DIR%/error.log info;
            events { worker_connections 8192; }
            http {
            access_log off; %TEMP_PATHS%
            server_names_hash_bucket_size 128; variables_hash_max_size 4096; variables_hash_bucket_size 128;
            types { text/html html; text/plain txt; text/css css; } default_type text/plain; root %FILES%;
            log_format row "logged $uri $status";
            server { listen 127.0.0.1:%PORT%; return 204; }

            """);
        for (int i = 0; i < rows.Length; i++)
        {
            foreach (string letter in new[] { "a", "b" })
            {
                Row row = rows[i];
                text.Append(Expand(row.Http, row, i, letter)).Append('\n')
                    .Append(Expand("server { listen %HOST%:%PORT%; server_name row; ", row, i, letter))
                    .Append(Expand(row.Server, row, i, letter)).Append(" }\n")
                    .Append(Expand(row.After, row, i, letter)).Append('\n');
            }
        }
        return text.Append(TlsRows.Origin).Append("}\n").ToString();
    }

    /// <summary>Asks one server; null, or what it should have said.</summary>
    private static string? Check(ServerProcess server, RowOrigins origins, Row row, int index, string letter,
        string says, bool isNginx, out string told)
    {
        says = Expand(says, row, index, letter).Replace("%NAME%", isNginx ? "nginx" : "weir", StringComparison.Ordinal)
            .Replace("%PORT%", $"{server.Port}", StringComparison.Ordinal);
        bool must = !says.StartsWith('!');
        string words = must ? says : says[1..];
        string log = server.Dir.At($"r{index}{letter}.log");
        bool Logged() => File.Exists(log) && File.ReadAllText(log).Contains(words, StringComparison.Ordinal);

        IPEndPoint address = Address(server, index, letter);
        using RawClient client = RawClient.Connect(address);
        using RawClient? beside = row.Send.Contains(Row.Beside) ? RawClient.Connect(address) : null;
        bool isBeside = false, isDropped = false;
        var bytes = new StringBuilder();
        string send = Expand(row.Send, row, index, letter);
        foreach (string piece in MarkPattern().Split(send).Where(static p => p.Length > 0))
        {
            switch (piece)
            {
                case Row.Until:
                    ReadUntil(client, bytes, must ? words : "<open>");
                    break;
                case Row.Wait:
                    bytes.Append(Encoding.Latin1.GetString(client.ReadUntilQuiet(QuietMs / 2)));
                    break;
                case Row.Answer:
                    bytes.Append(Encoding.Latin1.GetString(client.ReadResponse().Raw));
                    break;
                case Row.Touch:
                    bytes.Append(Encoding.Latin1.GetString(client.ReadResponse().Raw));
                    foreach (string name in new[] { "made-", "held-" })
                    {
                        File.WriteAllText(server.Files.At("new-" + name + $"r{index}{letter}"), "now there");
                        File.Move(server.Files.At("new-" + name + $"r{index}{letter}"),
                            server.Files.At(name + $"r{index}{letter}"), overwrite: true);
                    }
                    break;
                case Row.Poke:
                    ReadUntil(client, bytes, "<end>");
                    bytes.Append(Pokes(client, words == "<broken>" ? 60 : 3) ? "<taken>" : "<broken>");
                    break;
                case Row.Beside:
                    isBeside = !isBeside;
                    if (!isBeside)
                    {
                        Wait.For("a request at the origin", () => origins.HasSeen($"r{index}{letter}"));
                    }
                    break;
                case Row.Drop:
                    Wait.For("a request at the origin", () => origins.HasSeen($"r{index}{letter}"));
                    client.Dispose();
                    isDropped = true;
                    break;
                default:
                    (isBeside ? beside! : client).TrySend(Encoding.Latin1.GetBytes(piece));
                    break;
            }
        }
        if (row.LogFirst)
        {
            Wait.Until(Logged, must ? PatientMs : QuietMs);
        }
        if (!isDropped && !send.EndsWith(Row.Until, StringComparison.Ordinal)
            && !send.EndsWith(Row.Poke, StringComparison.Ordinal))
        {
            ReadUntil(client, bytes, "<end>");
        }
        if (row.HasLog && must)
        {
            Wait.Until(() => bytes.ToString().Contains(words, StringComparison.Ordinal) || Logged(), PatientMs);
        }
        if (row.HasStored)
        {
            // Itself, or a file in it where it is a folder.
            string? stored = null;
            string name = $"/stored-r{index}{letter}-";
            Wait.For("the file", () => (stored = Directory.EnumerateFiles(server.Dir.Path, "*",
                SearchOption.AllDirectories).FirstOrDefault(f => f.Contains(name))) is not null);
            bytes.Append(CultureInfo.InvariantCulture, $"{stored}. {File.GetUnixFileMode(stored!)}.");
        }
        told = DatePattern().Replace(bytes.ToString(), "Date: *");
        told = (told.Length > ShownChars ? told[..ShownChars] : told)
            + (isDropped ? "<gone>" : client.Ending == Ending.Open ? "<open>" : "<end>")
            + (File.Exists(log) ? File.ReadAllText(log) : "");
        return told.Contains(words, StringComparison.Ordinal) == must ? null
            : $"\"{(letter == "a" ? row.A : row.B)}\" does not say \"{says}\"\n{told}";
    }

    private static bool Pokes(RawClient client, int times)
    {
        while (times-- > 0)
        {
            client.Socket.Poll(TimeSpan.FromMilliseconds(QuietMs), System.Net.Sockets.SelectMode.SelectError);
            if (!client.TrySend("m"u8.ToArray()))
            {
                return false;
            }
        }
        return true;
    }

    private static void ReadUntil(RawClient client, StringBuilder bytes, string words)
    {
        try
        {
            if (words == "<open>")
            {
                bytes.Append(Encoding.Latin1.GetString(client.ReadUntilQuiet(QuietMs)));
                return;
            }
            long until = Environment.TickCount64 + PatientMs;
            while (client.Ending == Ending.Open && Environment.TickCount64 < until
                && (words == "<end>" || !bytes.ToString().Contains(words, StringComparison.Ordinal)))
            {
                client.WaitForBytes(1000);
                bytes.Append(Encoding.Latin1.GetString(client.ReadBytes(client.PendingBytes)));
            }
        }
        catch (System.Net.Sockets.SocketException)
        {
            bytes.Append("<reset>");
        }
    }

    private static void WriteFiles(TempDir files, IEnumerable<string> ids)
    {
        string words = string.Concat(Enumerable.Range(0, 9000).Select(static i => $"{i * 7919 % 10007} "));
        foreach ((string name, string content) in new[]
        {
            ("index.html", "the index"), ("one.html", "one one"), ("b.txt", "0123456789"), ("dir/one.txt", "one one"),
            ("dir/big.txt", new string('d', 30_000)), ("solo/one.html", "alone"), ("mid.txt", new string('m', 3000)),
            ("words.txt", words + words[..20_000]), ("plain.zzz", "zzz"), ("latin.txt", "caf\u00e9"), ("c.css", "c"),
            ("gz.txt", "plain"), ("pw", "user:{PLAIN}pass\n"), ("pw2", "other:{PLAIN}pass\n"),
        })
        {
            files.Write(name, content);
        }
        TlsRows.WriteFiles(files);
        File.CreateSymbolicLink(files.At("link.txt"), files.At("b.txt"));
        using (var gzip = new GZipStream(File.Create(files.At("gz.txt.gz")), CompressionLevel.Fastest))
        {
            gzip.Write("unzipped"u8);
        }
        foreach (string id in ids)
        {
            files.Write("held-" + id, "was there");
        }
    }

    [GeneratedRegex("([\u0001\u0002\u0003\u0004\u0005\u0006\u0007])")]
    private static partial Regex MarkPattern();

    [GeneratedRegex("Date: [^\r]*")]
    private static partial Regex DatePattern();
}
