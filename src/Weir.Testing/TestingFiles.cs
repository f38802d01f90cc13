// Where the texts of a configuration under test come from: the disk with what the test put before it, and replacements
// in every text. On the loading thread.
using System.Text;
using Weir.Conf;

namespace Weir.Testing;

internal sealed class TestingFiles(NginxConfOptions options, string? mainPath, string? mainText) : IConfFiles
{
    private readonly DiskConfFiles _disk = new();
    private readonly MemoryConfFiles _own = Own(options);

    private static MemoryConfFiles Own(NginxConfOptions options)
    {
        var files = new MemoryConfFiles();
        foreach ((string path, string text) in options.Files)
        {
            files.Add(path, text);
        }
        return files;
    }

    public ConfFile? Read(string absolutePath, out string? error)
    {
        byte[]? bytes;
        if (mainText is not null && absolutePath == mainPath)
        {
            error = null;
            bytes = Encoding.UTF8.GetBytes(mainText);
        }
        else
        {
            bytes = (_own.Read(absolutePath, out error) ?? _disk.Read(absolutePath, out error))?.Bytes;
        }
        return bytes is null ? null : new ConfFile(absolutePath, Replaced(bytes));
    }

    public IReadOnlyList<string> Glob(string pattern) =>
        [.. _own.Glob(pattern).Union(_disk.Glob(pattern)).Order(StringComparer.Ordinal)];

    /// <summary>Bytes are characters here: a text in any coding stays what it is.</summary>
    private byte[] Replaced(byte[] bytes)
    {
        if (options.Replace.Count == 0)
        {
            return bytes;
        }
        string text = Encoding.Latin1.GetString(bytes);
        foreach ((string old, string other) in options.Replace.OrderByDescending(static r => r.Key.Length))
        {
            text = text.Replace(Bytes(old), Bytes(other), StringComparison.Ordinal);
        }
        return Encoding.Latin1.GetBytes(text);
    }

    private static string Bytes(string text) => Encoding.Latin1.GetString(Encoding.UTF8.GetBytes(text));
}
