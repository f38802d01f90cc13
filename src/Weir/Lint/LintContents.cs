// Rules about types of answers: what is compressed in vain, what a `types` block drops. Start-up only.
using Weir.Conf;

namespace Weir.Lint;

internal static class LintContents
{
    /// <summary>A block of so many types is meant to be the whole table.</summary>
    private const int FewTypes = 10;

    private static readonly string[] s_compressed =
    [
        "image/jpeg", "image/jpg", "image/png", "image/gif", "image/webp", "image/avif", "video/mp4", "video/webm",
        "audio/mpeg", "audio/ogg", "application/zip", "application/gzip", "application/x-gzip", "font/woff",
        "font/woff2", "application/font-woff", "application/font-woff2", "application/x-7z-compressed",
    ];

    public static void CheckCompression(Linter linter, ConfDirective directive)
    {
        foreach (ConfArg arg in directive.Args)
        {
            if (s_compressed.Contains(arg.Text.ToLowerInvariant()))
            {
                linter.Say("gzip-types", arg.Span, $"{arg.Text} is compressed already: doing it again costs time and "
                    + "makes it no smaller", $"leave {arg.Text} out of \"{directive.Name}\"");
                return;
            }
        }
    }

    /// <summary>Types are inherited whole or not at all.</summary>
    public static void CheckTypes(Linter linter, LintScope server)
    {
        if (server.Own("types") is not { } first || server.Around?.LevelOf("types")?.Own("types") is not { } outer)
        {
            return;
        }
        int count = server.All("types").Sum(static t => t.Block?.Count ?? 0);
        if (count is > 0 and < FewTypes)
        {
            linter.Say("types-lost", first, $"the types of line {outer.Span.Line}{(outer.File.Path == first.File.Path
                ? "" : " of " + outer.File.Path)} are not known in this server: files go out as \"default_type\"",
                "include mime.types; before it, or keep the block to a location");
        }
    }
}
