// glob(3) patterns over byte text: '*' and '?' never match '/', and never a leading '.'; '[a-z]', '[!a-z]' and '\x' as
// in fnmatch(3). Matching is iterative over one star at a time, so no pattern makes it slow.
namespace Weir.Conf;

public sealed class GlobPattern(string pattern)
{
    public string Pattern { get; } = pattern;

    /// <summary>Whether nginx would call glob(3) for this path at all.</summary>
    public static bool HasMagic(string path) => path.AsSpan().IndexOfAny('*', '?', '[') >= 0;

    /// <summary>Matches a whole path, component by component.</summary>
    public bool Matches(string path)
    {
        ReadOnlySpan<char> patternRest = Pattern;
        ReadOnlySpan<char> pathRest = path;
        while (true)
        {
            int patternSlash = patternRest.IndexOf('/');
            int pathSlash = pathRest.IndexOf('/');
            if ((patternSlash < 0) != (pathSlash < 0))
            {
                return false;
            }
            if (patternSlash < 0)
            {
                return MatchesName(patternRest, pathRest);
            }
            if (!MatchesName(patternRest[..patternSlash], pathRest[..pathSlash]))
            {
                return false;
            }
            patternRest = patternRest[(patternSlash + 1)..];
            pathRest = pathRest[(pathSlash + 1)..];
        }
    }

    /// <summary>Matches one component, a name without '/'.</summary>
    public static bool MatchesName(ReadOnlySpan<char> pattern, ReadOnlySpan<char> name)
    {
        if (name.StartsWith('.') && !pattern.StartsWith('.') && !pattern.StartsWith("\\."))
        {
            return pattern.IsEmpty && name.IsEmpty;
        }
        int p = 0;
        int n = 0;
        int starPattern = -1;
        int starName = 0;
        while (n < name.Length)
        {
            if (p < pattern.Length && pattern[p] == '*')
            {
                starPattern = ++p;
                starName = n;
                continue;
            }
            int taken = p < pattern.Length ? MatchOne(pattern[p..], name[n]) : 0;
            if (taken > 0)
            {
                p += taken;
                n++;
            }
            else if (starPattern >= 0)
            {
                p = starPattern;
                n = ++starName;
            }
            else
            {
                return false;
            }
        }
        while (p < pattern.Length && pattern[p] == '*')
        {
            p++;
        }
        return p == pattern.Length;
    }

    /// <summary>How much of the pattern one char uses up, or 0 when it does not match.</summary>
    private static int MatchOne(ReadOnlySpan<char> pattern, char c)
    {
        switch (pattern[0])
        {
            case '?':
                return 1;
            case '\\' when pattern.Length > 1:
                return pattern[1] == c ? 2 : 0;
            case '[':
                int length = MatchSet(pattern, c, out bool matches);
                return length == 0 ? (c == '[' ? 1 : 0) : matches ? length : 0;
            default:
                return pattern[0] == c ? 1 : 0;
        }
    }

    /// <summary>The length of the bracket expression, or 0 when it is not closed and so is a plain '['.</summary>
    private static int MatchSet(ReadOnlySpan<char> pattern, char c, out bool matches)
    {
        matches = false;
        int i = 1;
        bool negated = i < pattern.Length && (pattern[i] is '!' or '^');
        if (negated)
        {
            i++;
        }
        bool hit = false;
        for (bool first = true; i < pattern.Length; first = false)
        {
            if (pattern[i] == ']' && !first)
            {
                matches = hit != negated;
                return i + 1;
            }
            char low = pattern[i];
            if (low == '\\' && i + 1 < pattern.Length)
            {
                low = pattern[++i];
            }
            char high = low;
            if (i + 2 < pattern.Length && pattern[i + 1] == '-' && pattern[i + 2] != ']')
            {
                i += 2;
                high = pattern[i];
            }
            hit |= c >= low && c <= high;
            i++;
        }
        return 0;
    }
}
