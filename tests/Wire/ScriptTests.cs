// The scripts that say what must come back, against the binary over real sockets. The simulation plays them too.
using System.Globalization;
using Weir.Tests.Harness;
using Weir.Tests.Harness.Cases;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class ScriptTests
{
    // A slow moment of the machine is given more patience before a verdict.
    private const int MorePatience = 4;

    public static TheoryData<string> Ids
    {
        get
        {
            var data = new TheoryData<string>();
            foreach (Case one in Table.Expecting)
            {
                data.Add(one.Id);
            }

            return data;
        }
    }

    [Theory, MemberData(nameof(Ids))]
    public void A_script_is_answered_as_it_says(string id)
    {
        Case one = Table.Expecting.Single(c => c.Id == id);
        string[] answered = Play(one, patience: 1);
        if (!answered.AsSpan().SequenceEqual(one.Expect))
        {
            answered = Play(one, MorePatience);
        }

        Assert.Equal(string.Join("=====\n", one.Expect!), string.Join("=====\n", answered));
    }

    private static string[] Play(Case one, int patience)
    {
        using var files = new TempDir();
        foreach ((string name, string content) in one.Files)
        {
            files.Write(name, content);
        }

        using NameServer? names = one.HasNames ? new NameServer() : null;
        using Upstream? upstream = one.Origin is { } origin ? Upstream.Playing(origin) : null;
        int upstreamPort = upstream?.Port ?? 0;
        var conf = new Conf(one.Configuration.Text.Replace("%DNS%",
            (names?.Port ?? 0).ToString(CultureInfo.InvariantCulture)));
        using ServerProcess server = ServerProcess.Weir(conf, files, upstreamPort);
        return [.. one.Talks.Select(talk => Transcript.Of(server, upstreamPort, talk, patience))];
    }
}
