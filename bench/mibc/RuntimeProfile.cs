// The runtime's text of what its instrumented code counted: for each method its edges and what types came by. Several
// runs add up, method by method: the same IL is instrumented in the same places.
using System.Globalization;

namespace Weir.Bench.Mibc;

/// <summary>One counter, or one table of types, of a method.</summary>
internal sealed class Counter(int kind, int offset, int count, int other)
{
    private const int DataMask = 0xF, FourBytes = 1, EightBytes = 2, Types = 3;

    internal int Kind { get; } = kind;
    internal int Offset { get; } = offset;
    internal int Count { get; } = count;
    internal int Other { get; } = other;

    private bool HasNumbers => (Kind & DataMask) is FourBytes or EightBytes;

    /// <summary>How often something was passed; else a table of what was met there.</summary>
    internal bool IsNumber => HasNumbers && Count == 1;

    internal bool IsNumbers => HasNumbers && Count != 1;
    internal bool IsTypes => (Kind & DataMask) == Types;

    internal long Value { get; set; }

    /// <summary>Of a table of numbers.</summary>
    internal long[] Values { get; set; } = [];

    /// <summary>Of a table of types; null for an empty place.</summary>
    internal string?[] Names { get; set; } = [];

    internal bool IsAlike(Counter other) =>
        Kind == other.Kind && Offset == other.Offset && Count == other.Count && Other == other.Other;
}

/// <summary>What a method counted.</summary>
internal sealed class MethodCounts(string name, string signature, int ilBytes)
{
    internal string Name { get; } = name;
    internal string Signature { get; } = signature;
    internal int ILBytes { get; } = ilBytes;
    internal List<Counter> Counters { get; } = [];
    internal long Most => Counters.Where(static c => c.IsNumber).Select(static c => c.Value).DefaultIfEmpty().Max();

    internal void Add(MethodCounts other)
    {
        if (Counters.Count != other.Counters.Count
            || !Counters.Zip(other.Counters).All(static p => p.First.IsAlike(p.Second)))
        {
            return;
        }
        long before = 0, added = 0;
        for (int i = 0; i < Counters.Count; i++)
        {
            if (Counters[i].IsNumber)
            {
                before = Counters[i].Value;
                added = other.Counters[i].Value;
                Counters[i].Value += added;
            }
            else if (added > before)
            {
                // A table stands behind the number of how often it was filled: that of the busier run is kept.
                Counters[i].Names = other.Counters[i].Names;
                Counters[i].Values = other.Counters[i].Values;
            }
        }
    }
}

/// <summary>All methods of all runs.</summary>
internal sealed class RuntimeProfile
{
    internal const long LeastCount = 1000;

    private const string MethodMark = "@@@ ", NameMark = "MethodName: ", SignatureMark = "Signature: ",
        CounterMark = "Schema ", TypeMark = "TypeHandle: ";

    private readonly Dictionary<(string, string, int), MethodCounts> _methods = [];

    internal IReadOnlyCollection<MethodCounts> Methods => _methods.Values;

    internal void Add(string file)
    {
        string[] lines = File.ReadAllLines(file);
        int at = 1; // behind the line that says how many there are
        while (at + 2 < lines.Length && lines[at].StartsWith(MethodMark, StringComparison.Ordinal))
        {
            // @@@ codehash 0x… methodhash 0x… ilSize 0x… records 0x…
            int bytes = Convert.ToInt32(lines[at].Split(' ')[6], fromBase: 16);
            var method = new MethodCounts(
                lines[at + 1][NameMark.Length..], lines[at + 2][SignatureMark.Length..], bytes);
            at += 3;
            while (at < lines.Length && lines[at].StartsWith(CounterMark, StringComparison.Ordinal))
            {
                method.Counters.Add(ReadCounter(lines, ref at));
            }
            if (!_methods.TryAdd((method.Name, method.Signature, bytes), method))
            {
                _methods[(method.Name, method.Signature, bytes)].Add(method);
            }
        }
    }

    /// <summary>Schema InstrumentationKind K ILOffset O Count C Other X, and C lines of data.</summary>
    private static Counter ReadCounter(string[] lines, ref int at)
    {
        string[] words = lines[at++].Split(' ');
        int Number(int word) => unchecked((int)uint.Parse(words[word], CultureInfo.InvariantCulture));
        var counter = new Counter(Number(2), Number(4), Number(6), Number(8));
        string[] data = lines[at..(at + counter.Count)];
        at += counter.Count;
        if (counter.IsTypes)
        {
            counter.Names =
                [.. data.Select(static d => d[TypeMark.Length..]).Select(static d => d == "NULL" ? null : d)];
        }
        else if (counter.IsNumber)
        {
            counter.Value = ReadNumber(data[0]);
        }
        else if (counter.IsNumbers)
        {
            counter.Values = [.. data.Select(ReadNumber)];
        }
        return counter;
    }

    /// <summary>One half, or the lower and the upper.</summary>
    private static long ReadNumber(string line)
    {
        uint[] halves = [.. line.Split(' ').Select(static h => uint.Parse(h, CultureInfo.InvariantCulture))];
        return halves.Length == 2 ? halves[0] | (long)halves[1] << 32 : halves[0];
    }
}
