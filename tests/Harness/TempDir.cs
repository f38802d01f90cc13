// A directory of a test's own, readable by every user (a worker that dropped its privileges must reach the files),
// deleted on dispose unless WEIR_TEST_KEEP=1.
namespace Weir.Tests.Harness;

/// <summary>A temporary directory.</summary>
public sealed class TempDir : IDisposable
{
    // One time for every file, so that Last-Modified and ETag do not depend on when a test ran.
    private static readonly DateTime _fileTime = new(2024, 2, 29, 12, 34, 56, DateTimeKind.Utc);

    public TempDir(string prefix = "weir-test-")
    {
        Path = Directory.CreateTempSubdirectory(prefix).FullName;
        if (!OperatingSystem.IsWindows())
        {
            File.SetUnixFileMode(Path, (UnixFileMode)0b111_101_101);
        }
    }

    public string Path { get; }

    /// <summary>Where a relative name lies.</summary>
    public string At(string name) => System.IO.Path.Combine(Path, name);

    /// <summary>Writes a file, with its folders; a name that ends with a slash is an empty folder.</summary>
    public string Write(string name, string text) => Write(name, System.Text.Encoding.Latin1.GetBytes(text));

    public string Write(string name, byte[] bytes)
    {
        string path = At(name);
        if (name.EndsWith('/'))
        {
            Directory.CreateDirectory(path);
            return path;
        }

        Directory.CreateDirectory(System.IO.Path.GetDirectoryName(path)!);
        File.WriteAllBytes(path, bytes);
        File.SetLastWriteTimeUtc(path, _fileTime);
        return path;
    }

    /// <summary>Gives every folder the time that its files have, for listings.</summary>
    public void SetFolderTimes()
    {
        foreach (string folder in Directory.GetDirectories(Path, "*", SearchOption.AllDirectories).Append(Path))
        {
            Directory.SetLastWriteTimeUtc(folder, _fileTime);
        }
    }

    public string Read(string name) => File.Exists(At(name)) ? File.ReadAllText(At(name)) : "";

    public void Dispose()
    {
        if (Environment.GetEnvironmentVariable("WEIR_TEST_KEEP") == "1")
        {
            return;
        }

        try
        {
            Directory.Delete(Path, recursive: true);
        }
        catch (IOException)
        {
            // A server that is still going down may write its last line; the directory is temporary anyway.
        }
    }
}
