// The table of limits (Harness/Rows) against both servers: each lets through what is one less and what is just the
// limit, and refuses one more, and nginx says the same. And limit_conn, exactly, with connections that are held.
using System.Net;
using System.Text;
using System.Text.RegularExpressions;
using Weir.Tests.Harness;
using Weir.Tests.Harness.Rows;
using Xunit;

namespace Weir.Tests.Differential;

public sealed partial class EdgeTableTests
{
    private static readonly EdgeRow[] _rows = EdgeRows.All;

    [NeedsFact("nginx")]
    public void A_limit_is_where_nginx_has_it()
    {
        using var files = new TempDir();
        files.Write("ten.txt", "0123456789");
        files.Write("index.html", "index");
        using Upstream upstream = Upstream.Answering(static request => Answer(request.Target));
        using var origins = new RowOrigins(CgiAnswer);
        using ServerProcess theirs = Start(Tools.Require("nginx"), files, upstream, origins, isNginx: true);
        using ServerProcess ours = Start(ServerProcess.WeirBinary, files, upstream, origins, isNginx: false);
        var wrong = new List<string>();
        for (int i = 0; i < _rows.Length; i++)
        {
            EdgeRow row = _rows[i];
            foreach (int number in new[] { row.Limit - 1, row.Limit, row.Limit + 1 })
            {
                string says = (number > row.Limit ? row.Beyond : row.Within).Replace("<n>", $"{number}");
                foreach (ServerProcess server in row.IsWeirAlone is null ? new[] { theirs, ours } : [ours])
                {
                    string told = Tell(server, row, i, number);
                    if (!told.Contains(says))
                    {
                        wrong.Add($"{row.Name}, {number}: {Path.GetFileName(server.Binary)} does not say \"{says}\"\n"
                            + told[..Math.Min(told.Length, 300)]);
                    }
                }
            }
        }
        Assert.True(wrong.Count == 0, string.Join('\n', wrong));
    }

    /// <summary>Requests are held by an upstream that answers none of them: exactly the limit is admitted, by all
    /// workers together, and one more after one has gone.</summary>
    [NeedsTheory("nginx"), InlineData(1), InlineData(2)]
    public void Exactly_the_limit_of_connections_is_admitted(int workers)
    {
        const int limit = 5, asked = 12;
        var conf = Harness.Conf.Server("""
            limit_conn held 5; limit_conn_status 429;
            location / { proxy_pass http://127.0.0.1:%UPSTREAM%; proxy_ignore_client_abort off; }
            """, "limit_conn_zone $server_name zone=held:64k;", workers, master: true);
        foreach (string binary in new[] { ServerProcess.WeirBinary, Tools.Require("nginx") })
        {
            using var release = new ManualResetEventSlim();
            using var upstream = new Upstream(connection =>
            {
                if (connection.ReadRequest() is not null)
                {
                    release.Wait(60_000);
                    connection.Send(Upstream.Ok("held"));
                }
            });
            using ServerProcess server = ServerProcess.Start(binary, conf, upstreamPort: upstream.Port);
            var clients = new List<RawClient>();
            for (int i = 0; i < asked; i++)
            {
                // Each is either refused or at the upstream before the next one asks.
                RawClient client = server.Connect();
                client.Send(RawClient.Request("GET", $"/{i}", []));
                Wait.For("an answer or a request", () => client.WaitForBytes(5)
                    || upstream.Requests.Count == clients.Count(static c => c.PendingBytes == 0) + 1);
                clients.Add(client);
            }
            Assert.Equal(limit, upstream.Requests.Count);
            Assert.Equal(asked - limit,
                clients.Count(static c => c.PendingBytes > 0 && c.ReadResponse().Status == 429));
            // One goes, and its place is free.
            clients[0].Dispose();
            Wait.For("the place", () =>
            {
                RawClient next = server.Connect();
                next.Send(RawClient.Request("GET", "/next", []));
                int before = upstream.Requests.Count;
                Wait.For("an answer or a request",
                    () => next.WaitForBytes(5) || upstream.Requests.Count > limit);
                clients.Add(next);
                return upstream.Requests.Count > limit;
            });
            Assert.Equal(limit + 1, upstream.Requests.Count);
            release.Set();
            Assert.Equal("held", clients[1].ReadResponse().Text);
            clients.ForEach(static c => c.Dispose());
        }
    }

    private static ServerProcess Start(string binary, TempDir files, Upstream upstream, RowOrigins origins,
        bool isNginx)
    {
        var text = new StringBuilder("""
            types { } default_type text/plain; root %FILES%;
            server { listen 127.0.0.1:%PORT%; return 204; }

            """);
        for (int i = 0; i < _rows.Length; i++)
        {
            if (!isNginx || _rows[i].IsWeirAlone is null)
            {
                text.Append($"{_rows[i].Http}\nserver {{ listen {Host(i)}:%PORT%; server_name row; ")
                    .Append(_rows[i].Server.Replace("%UP%", "127.0.0.1:%UPSTREAM%")
                        .Replace("%CGI%", $"127.0.0.1:{origins.FastCgiPort}")).Append(" }\n");
            }
        }
        return ServerProcess.Start(binary, Harness.Conf.Http(text.ToString()), files, upstream.Port);
    }

    /// <summary>What a server says to a number; behind it whether it answered all that was asked.</summary>
    private static string Tell(ServerProcess server, EdgeRow row, int index, int number)
    {
        using RawClient client = RawClient.Connect(new IPEndPoint(IPAddress.Parse(Host(index)), server.Port));
        string send = row.Send(number);
        int cut = send.IndexOf(Row.Until, StringComparison.Ordinal);
        if (cut >= 0)
        {
            // The body comes when it is asked for, so that none of it was read with the head.
            client.Send(send[..cut]);
            client.WaitForBytes(30_000);
        }
        client.TrySend(Encoding.Latin1.GetBytes(send[(cut + 1)..]));
        string told = Encoding.Latin1.GetString(client.ReadToEnd());
        int asked = Regex.Count(send, "^(?:GET|POST) ", RegexOptions.Multiline);
        return told + (Regex.Count(told, "HTTP/1.1 2") == asked ? "<all>" : "<fewer>");
    }

    private static string Host(int index) => $"127.4.{index}.1";

    /// <summary>A head of so many bytes, or a body, or anything.</summary>
    private static string Answer(string target)
    {
        if (!NumberPattern().Match(target).Success)
        {
            return Upstream.Ok("fine");
        }
        int number = int.Parse(NumberPattern().Match(target).Value);
        if (target.StartsWith("/body"))
        {
            return Upstream.Ok(new string('b', number));
        }
        string head = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: ";
        return head + new string('h', number - head.Length - 4) + "\r\n\r\n";
    }

    /// <summary>A head of so many bytes, when the number has come.</summary>
    private static string? CgiAnswer(string number)
    {
        const string head = "Status: 200 OK\r\nX: ";
        return number.Length == 0 ? null : head + new string('h', int.Parse(number) - head.Length - 4) + "\r\n\r\n";
    }

    [GeneratedRegex("[0-9]+$")]
    private static partial Regex NumberPattern();
}
