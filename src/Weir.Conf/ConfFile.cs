// One configuration text as it was read, and places in it. Nobody changes it, so any thread may look; who keeps places
// after the text is not needed any more lets it go.
namespace Weir.Conf;

/// <summary>A file of a configuration, or the text of <c>-g</c>. <see cref="Path"/> is byte text.</summary>
public sealed class ConfFile(string path, byte[] bytes, bool isCommandLine = false)
{
    public string Path { get; } = path;

    /// <summary>The contents. Shared: nobody writes to it.</summary>
    public byte[] Bytes { get; private set; } = bytes;

    /// <summary>The text is not needed any more: places in it keep their numbers, not its bytes.</summary>
    internal void Forget() => Bytes = [];

    /// <summary>
    /// True for a text that came with <c>-g</c>: nginx then says "in command line" and gives no line.
    /// </summary>
    public bool IsCommandLine { get; } = isCommandLine;

    public static ConfFile CommandLine(string byteText) => new("command line", ConfText.Bytes(byteText), true);

    /// <summary>The text of a line, counted from 1, without its end. Empty when there is no such line.</summary>
    public string Line(int number)
    {
        ReadOnlySpan<byte> rest = Bytes;
        for (int i = 1; i < number; i++)
        {
            int end = rest.IndexOf((byte)'\n');
            if (end < 0)
            {
                return "";
            }
            rest = rest[(end + 1)..];
        }
        int stop = rest.IndexOf((byte)'\n');
        return ConfText.FromBytes(stop < 0 ? rest : rest[..stop]).TrimEnd('\r');
    }
}

/// <summary>
/// A place: where it starts, how many bytes it takes, and the line nginx would name for it, which is the line of the
/// ';' or '{' that ended the directive. <see cref="Order"/> grows in reading order over all files.
/// </summary>
public readonly record struct ConfSpan(ConfFile File, int Line, int Column, int Length, int ReportLine, int Order);
