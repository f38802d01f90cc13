// "Did you mean": names at a small edit distance (insert, delete, replace, swap of neighbours). Only used once
// something is already wrong, so it is written for clarity. Pure, any thread.
namespace Weir.Conf;

public static class NearestName
{
    /// <summary>Names longer than this get no suggestion.</summary>
    private const int LengthMax = 64;

    private const int SuggestionsMax = 3;

    /// <summary>The nearest candidates, best first, at most three, and all at the same smallest distance.</summary>
    public static List<string> Among(IEnumerable<string> candidates, string name)
    {
        List<string> nearest = [];
        int best = Tolerance(name);
        if (name.Length is 0 or > LengthMax)
        {
            return nearest;
        }
        foreach (string candidate in candidates)
        {
            if (Math.Abs(candidate.Length - name.Length) > best)
            {
                continue;
            }
            int distance = Distance(name, candidate);
            if (distance < best)
            {
                nearest.Clear();
                best = distance;
            }
            if (distance == best && nearest.Count < SuggestionsMax && !nearest.Contains(candidate))
            {
                nearest.Add(candidate);
            }
        }
        return nearest;
    }

    /// <summary>
    /// <c>did you mean "listen"?</c>, or null when nothing is near enough.
    /// </summary>
    public static string? Hint(IEnumerable<string> candidates, string name)
    {
        List<string> nearest = Among(candidates, name);
        return nearest.Count == 0
            ? null
            : "did you mean " + string.Join(" or ", nearest.Select(static n => $"\"{n}\"")) + "?";
    }

    private static int Tolerance(string name) => name.Length switch
    {
        <= 2 => 0,
        <= 4 => 1,
        <= 9 => 2,
        _ => 3,
    };

    /// <summary>Damerau-Levenshtein distance (optimal string alignment).</summary>
    public static int Distance(string a, string b)
    {
        int[] before = new int[b.Length + 1];
        int[] previous = new int[b.Length + 1];
        int[] current = new int[b.Length + 1];
        for (int j = 0; j <= b.Length; j++)
        {
            previous[j] = j;
        }
        for (int i = 1; i <= a.Length; i++)
        {
            current[0] = i;
            for (int j = 1; j <= b.Length; j++)
            {
                int cost = a[i - 1] == b[j - 1] ? 0 : 1;
                int least = Math.Min(Math.Min(previous[j] + 1, current[j - 1] + 1), previous[j - 1] + cost);
                if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                {
                    least = Math.Min(least, before[j - 2] + 1);
                }
                current[j] = least;
            }
            (before, previous, current) = (previous, current, before);
        }
        return previous[b.Length];
    }
}
