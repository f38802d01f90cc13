// Sources of configurations: memory, recording, the disk, patterns, includes, and the dump.
using System.Text;
using Weir.Conf;
using Xunit;

namespace Weir.Tests.Unit.Conf;

public sealed class ConfFilesTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("weir-conf-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private string Put(string name, string text)
    {
        string path = Path.Combine(_folder, name);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.WriteAllText(path, text);
        return path;
    }

    [Theory]
    [InlineData("*", "a.conf", true)]
    [InlineData("*", ".a", false)]
    [InlineData(".*", ".a", true)]
    [InlineData("*.conf", "a.conf", true)]
    [InlineData("*.conf", "a.conf~", false)]
    [InlineData("?.conf", "a.conf", true)]
    [InlineData("?.conf", "ab.conf", false)]
    [InlineData("[a-c]x", "bx", true)]
    [InlineData("[!a-c]x", "bx", false)]
    [InlineData("[^a-c]x", "dx", true)]
    [InlineData("[]a]x", "]x", true)]
    [InlineData("[a-]x", "-x", true)]
    [InlineData("[ax", "[ax", true)]
    [InlineData("\\*x", "*x", true)]
    [InlineData("\\*x", "ax", false)]
    [InlineData("a*b*c", "aXbYbZc", true)]
    [InlineData("a*b*c", "aXbYbZ", false)]
    [InlineData("", "", true)]
    public void A_pattern_matches_a_name_as_the_shell_does(string pattern, string name, bool matches) =>
        Assert.Equal(matches, GlobPattern.MatchesName(pattern, name));

    [Fact]
    public void A_star_does_not_cross_a_slash()
    {
        Assert.True(new GlobPattern("/a/*/c").Matches("/a/b/c"));
        Assert.False(new GlobPattern("/a/*").Matches("/a/b/c"));
        Assert.False(new GlobPattern("/a/*/c").Matches("/a/c"));
    }

    [Fact]
    public void A_pattern_of_stars_is_not_slow() =>
        Assert.False(GlobPattern.MatchesName(
            string.Concat(Enumerable.Repeat("a*", 2000)) + "b", new string('a', 4000)));

    [Fact]
    public void The_disk_lists_matches_sorted_by_bytes_and_hides_dot_files()
    {
        string[] names = ["b.conf", "a.conf", "B.conf", ".c.conf", "d.off", "x/one.conf", "y/two.conf"];
        foreach (string name in names)
        {
            Put("sites/" + name, "");
        }
        DiskConfFiles disk = new();
        Assert.Equal(["B.conf", "a.conf", "b.conf"],
            disk.Glob(_folder + "/sites/*.conf").Select(Path.GetFileName));
        Assert.Equal([_folder + "/sites/x/one.conf", _folder + "/sites/y/two.conf"],
            disk.Glob(_folder + "/sites/*/*.conf"));
        Assert.Equal([_folder + "/sites/.c.conf"], disk.Glob(_folder + "/sites/.[a-d]*"));
        Assert.Empty(disk.Glob(_folder + "/nowhere/*.conf"));
        Assert.Empty(disk.Glob(_folder + "/sites/z*"));
        Assert.Equal([_folder + "/sites/a.conf"], disk.Glob(_folder + "/sites/a.conf"));
    }

    [Fact]
    public void The_disk_says_what_fails_in_nginxs_words()
    {
        DiskConfFiles disk = new();
        Assert.Null(disk.Read(_folder + "/none", out string? error));
        Assert.Equal($"open() \"{_folder}/none\" failed (2: No such file or directory)", error);
        Assert.Null(disk.Read(_folder, out error));
        Assert.Equal($"pread() \"{_folder}\" failed (21: Is a directory)", error);
        Assert.Null(disk.Read(_folder + "/a\0b", out error));
        Assert.NotNull(error);
    }

    [Fact]
    public void A_missing_main_file_is_an_error_without_a_place()
    {
        ConfTree tree = ConfParser.Parse(new MemoryConfFiles(), "/c/none.conf");
        Assert.Equal(["[emerg] open() \"/c/none.conf\" failed (2: No such file or directory)"],
            ConfSample.Messages(tree));
    }

    [Fact]
    public void What_was_recorded_builds_the_same_tree_after_the_disk_has_changed()
    {
        string main = Put("nginx.conf",
            "events {}\nhttp { include sites/*; include none; types { include m.types; } }\n");
        Put("sites/b", "server { listen 2; }");
        string first = Put("sites/a", "server { listen 1; }");
        Put("m.types", "a/b c;\n");

        RecordingConfFiles recorder = new(new DiskConfFiles());
        ConfTree before = ConfSample.Walk(recorder, path: main);
        File.Delete(first);
        Put("sites/c", "server { listen 3; }");
        MemoryConfFiles snapshot = MemoryConfFiles.Deserialize(recorder.Recorded.Serialize());
        ConfTree after = ConfSample.Walk(snapshot, path: main);

        Assert.Equal(before.ToCanonicalText(), after.ToCanonicalText());
        Assert.Equal(ConfSample.Messages(before), ConfSample.Messages(after));
        Assert.Contains("failed (2: No such file", Assert.Single(ConfSample.Messages(after)));
        Assert.Equal(before.Files.Select(static f => f.Path), after.Files.Select(static f => f.Path));
    }

    [Fact]
    public void A_snapshot_that_is_cut_is_refused()
    {
        byte[] whole = new MemoryConfFiles().Add("/a", "b").AddGlob("/*", ["/a"]).AddFailure("/c", "no").Serialize();
        for (int length = 0; length < whole.Length; length++)
        {
            Assert.Throws<InvalidDataException>(() => MemoryConfFiles.Deserialize(whole.AsSpan(0, length)));
        }
        Assert.Equal(whole, MemoryConfFiles.Deserialize(whole).Serialize());
    }

    [Fact]
    public void The_dump_has_each_file_once_byte_for_byte()
    {
        MemoryConfFiles files = new MemoryConfFiles()
            .Add("/c/nginx.conf", "events {}\r\ninclude a;\ninclude a;")
            .Add("/c/a", Encoding.Latin1.GetBytes("# \u00ff\n"));
        ConfTree tree = ConfParser.Parse(files, "/c/nginx.conf", globals: "daemon off;");
        using MemoryStream dump = new();
        ConfDump.Write(tree, dump);
        Assert.Equal(
            "# configuration file /c/nginx.conf:\nevents {}\r\ninclude a;\ninclude a;\n"
                + "# configuration file /c/a:\n# \u00ff\n\n",
            Encoding.Latin1.GetString(dump.ToArray()));
    }

    [Fact]
    public void Includes_that_double_at_every_level_end()
    {
        MemoryConfFiles files = new();
        for (int i = 0; i < 40; i++)
        {
            files.Add($"/c/{i}", $"include {i + 1};\ninclude {i + 1};\n");
        }
        files.Add("/c/40", "");
        ConfTree tree = ConfParser.Parse(files, "/c/0");
        Assert.Contains("are included", Assert.Single(ConfSample.Messages(tree)));
    }

    [Fact]
    public void Includes_nest_to_the_limit_and_no_deeper()
    {
        ConfTree Chain(int depth)
        {
            MemoryConfFiles files = new();
            for (int i = 0; i < depth; i++)
            {
                files.Add($"/c/{i}", i == depth - 1 ? "" : $"include {i + 1};");
            }
            return ConfParser.Parse(files, "/c/0");
        }
        Assert.False(Chain(ConfParser.IncludeDepthMax - 1).Errors.Failed);
        Assert.False(Chain(ConfParser.IncludeDepthMax).Errors.Failed);
        Assert.Contains("64 deep", Assert.Single(ConfSample.Messages(Chain(ConfParser.IncludeDepthMax + 1))));
    }

    [Fact]
    public void A_file_with_a_byte_order_mark_is_named_as_such()
    {
        ConfTree tree = ConfSample.Walk(new MemoryConfFiles().Add("/c/nginx.conf", [0xEF, 0xBB, 0xBF, .. "user a;"u8]));
        Assert.Contains("byte order mark", Assert.Single(tree.Errors.All).Hint);
    }

    [Fact]
    public void The_configuration_that_Debian_ships_is_accepted()
    {
        const string Main = "/etc/nginx/nginx.conf";
        if (!File.Exists(Main))
        {
            return; // without nginx on this machine the golden files have the same shapes
        }
        ConfTree tree = ConfSample.Walk(new DiskConfFiles(), path: Main);
        Assert.Empty(ConfSample.Messages(tree));
        Assert.Contains(tree.Files, static f => f.Path == "/etc/nginx/mime.types");
    }
}
