// The seam through which every byte of a configuration is read, and the two sources that need no disk: a dictionary
// (snapshots, tests) and a recorder (what a master saw, to be sent to its workers). Paths are byte text.
// Used by the thread that builds a configuration.
using System.Buffers.Binary;
using System.Text;

namespace Weir.Conf;

/// <summary>Where configurations come from.</summary>
public interface IConfFiles
{
    /// <summary>
    /// The whole file, or null and nginx's words, such as <c>open() "/x" failed (2: No such file or directory)</c>.
    /// </summary>
    ConfFile? Read(string absolutePath, out string? error);

    /// <summary>
    /// The paths that match, sorted by bytes; empty when none does. Without glob characters: the path if it
    /// exists.
    /// </summary>
    IReadOnlyList<string> Glob(string pattern);
}

/// <summary>Files held in memory: contents, known failures and known glob results by name.</summary>
public sealed class MemoryConfFiles : IConfFiles
{
    private const int FormatVersion = 1;

    private readonly SortedDictionary<string, byte[]> _files = new(StringComparer.Ordinal);
    private readonly SortedDictionary<string, string> _failures = new(StringComparer.Ordinal);
    private readonly SortedDictionary<string, string[]> _globs = new(StringComparer.Ordinal);

    public IEnumerable<string> Paths => _files.Keys;

    public MemoryConfFiles Add(string path, byte[] contents)
    {
        _files[path] = contents;
        return this;
    }

    public MemoryConfFiles Add(string path, string contents) => Add(path, Encoding.UTF8.GetBytes(contents));

    /// <summary>Reading this path fails with these words.</summary>
    public MemoryConfFiles AddFailure(string path, string error)
    {
        _failures[path] = error;
        return this;
    }

    /// <summary>This pattern has exactly these results, whatever files are here.</summary>
    public MemoryConfFiles AddGlob(string pattern, IReadOnlyList<string> results)
    {
        _globs[pattern] = [.. results];
        return this;
    }

    public ConfFile? Read(string absolutePath, out string? error)
    {
        if (_files.TryGetValue(absolutePath, out byte[]? contents))
        {
            error = null;
            return new ConfFile(absolutePath, contents);
        }
        error = _failures.GetValueOrDefault(absolutePath)
            ?? $"open() \"{absolutePath}\" failed (2: No such file or directory)";
        return null;
    }

    public IReadOnlyList<string> Glob(string pattern)
    {
        if (_globs.TryGetValue(pattern, out string[]? results))
        {
            return results;
        }
        GlobPattern glob = new(pattern);
        return [.. _files.Keys.Where(glob.Matches)];
    }

    /// <summary>Everything here as bytes, for a snapshot.</summary>
    public byte[] Serialize()
    {
        using MemoryStream bytes = new();
        WriteInt(bytes, FormatVersion);
        WriteInt(bytes, _files.Count);
        foreach ((string path, byte[] contents) in _files)
        {
            WriteBytes(bytes, ConfText.Bytes(path));
            WriteBytes(bytes, contents);
        }
        WriteInt(bytes, _failures.Count);
        foreach ((string path, string error) in _failures)
        {
            WriteBytes(bytes, ConfText.Bytes(path));
            WriteBytes(bytes, ConfText.Bytes(error));
        }
        WriteInt(bytes, _globs.Count);
        foreach ((string pattern, string[] results) in _globs)
        {
            WriteBytes(bytes, ConfText.Bytes(pattern));
            WriteInt(bytes, results.Length);
            foreach (string result in results)
            {
                WriteBytes(bytes, ConfText.Bytes(result));
            }
        }
        return bytes.ToArray();
    }

    /// <summary>
    /// What <see cref="Serialize"/> wrote. Throws on anything else: a snapshot is from our own master.
    /// </summary>
    public static MemoryConfFiles Deserialize(ReadOnlySpan<byte> bytes)
    {
        if (ReadInt(ref bytes) != FormatVersion)
        {
            throw new InvalidDataException("a snapshot of another build");
        }
        MemoryConfFiles files = new();
        for (int left = ReadInt(ref bytes); left > 0; left--)
        {
            string path = ReadText(ref bytes);
            files.Add(path, ReadBytes(ref bytes).ToArray());
        }
        for (int left = ReadInt(ref bytes); left > 0; left--)
        {
            string path = ReadText(ref bytes);
            files.AddFailure(path, ReadText(ref bytes));
        }
        for (int left = ReadInt(ref bytes); left > 0; left--)
        {
            string pattern = ReadText(ref bytes);
            List<string> results = [];
            for (int more = ReadInt(ref bytes); more > 0; more--)
            {
                results.Add(ReadText(ref bytes));
            }
            files.AddGlob(pattern, results);
        }
        return files;
    }

    private static void WriteInt(MemoryStream to, int value)
    {
        Span<byte> four = stackalloc byte[4];
        BinaryPrimitives.WriteInt32LittleEndian(four, value);
        to.Write(four);
    }

    private static void WriteBytes(MemoryStream to, byte[] bytes)
    {
        WriteInt(to, bytes.Length);
        to.Write(bytes);
    }

    private static int ReadInt(ref ReadOnlySpan<byte> from)
    {
        int value = from.Length < 4 ? -1 : BinaryPrimitives.ReadInt32LittleEndian(from);
        if (value < 0)
        {
            throw new InvalidDataException("a snapshot that ends too early");
        }
        from = from[4..];
        return value;
    }

    private static ReadOnlySpan<byte> ReadBytes(ref ReadOnlySpan<byte> from)
    {
        int length = ReadInt(ref from);
        if (length > from.Length)
        {
            throw new InvalidDataException("a snapshot that ends too early");
        }
        ReadOnlySpan<byte> bytes = from[..length];
        from = from[length..];
        return bytes;
    }

    private static string ReadText(ref ReadOnlySpan<byte> from) => ConfText.FromBytes(ReadBytes(ref from));
}

/// <summary>Passes everything on and remembers it, so that <see cref="Recorded"/> answers the same for ever.</summary>
public sealed class RecordingConfFiles(IConfFiles inner) : IConfFiles
{
    public MemoryConfFiles Recorded { get; } = new();

    public ConfFile? Read(string absolutePath, out string? error)
    {
        ConfFile? file = inner.Read(absolutePath, out error);
        if (file is not null)
        {
            Recorded.Add(absolutePath, file.Bytes);
        }
        else
        {
            Recorded.AddFailure(absolutePath, error ?? "");
        }
        return file;
    }

    public IReadOnlyList<string> Glob(string pattern)
    {
        IReadOnlyList<string> results = inner.Glob(pattern);
        Recorded.AddGlob(pattern, results);
        return results;
    }
}
