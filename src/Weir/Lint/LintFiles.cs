// Rules about files: secrets that everybody may read, backups that an include reads. Asks for modes of files and opens
// none. Start-up only.
using Weir.Conf;

namespace Weir.Lint;

internal static class LintFiles
{
    private static readonly string[] s_backups =
        ["~", ".bak", ".old", ".orig", ".save", ".swp", ".rpmsave", ".rpmnew", ".dpkg-old", ".dpkg-dist", ".dpkg-new"];

    public static void CheckSecret(Linter linter, ConfDirective directive)
    {
        if (directive.Args.Length != 1 || directive[0].Contains('$') || directive[0].Contains(':')
            || directive[0] == "off")
        {
            return;
        }
        string path = Path.Combine(linter.Settings.ConfPrefix, ConfText.ToUnicode(directive[0]));
        UnixFileMode mode;
        try
        {
            mode = File.GetUnixFileMode(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // That it is missing or shut is an error of its own, or none.
            return;
        }
        if ((mode & UnixFileMode.OtherRead) != 0)
        {
            linter.Say("secret-readable", directive, $"every user of this machine may read \"{path}\"",
                directive.Name == "auth_basic_user_file"
                    ? $"chmod 640 {path}, in the group of the workers' user" : $"chmod 600 {path}");
        }
    }

    public static void Check(Linter linter, ConfTree tree)
    {
        foreach (ConfFile file in tree.Files.Skip(1))
        {
            if (Array.Find(s_backups, e => file.Path.EndsWith(e, StringComparison.Ordinal)) is { } ending)
            {
                linter.Say("include-backup", new ConfSpan(file, 1, 1, 1, 1, 0),
                    $"this file is read by an include, and looks like a backup (\"{ending}\")",
                    "include *.conf, or keep backups elsewhere");
            }
        }
    }
}
