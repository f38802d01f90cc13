// PCRE2 (libpcre2-8), loaded when the first regular expression is compiled. Patterns are compiled once per
// configuration; match data and the match context, which limits the work of one match, belong to a thread.
using System.Runtime.InteropServices;
using System.Text;

namespace Weir.Kernel;

/// <summary>A compiled pattern. Freed by its owner, the configuration.</summary>
public sealed unsafe class Pcre2Pattern : IDisposable
{
    private nint _code;
    private readonly bool _isNative;

    internal Pcre2Pattern(nint code, bool isNative, int captures, (string, int)[] names)
    {
        _code = code;
        _isNative = isNative;
        CaptureCount = captures;
        Names = names;
    }

    public int CaptureCount { get; }

    /// <summary>Named groups and their numbers.</summary>
    public (string Name, int Group)[] Names { get; }

    /// <summary>Matches. Returns the number of groups set (the whole match is the first), 0 for no match, or a
    /// negative error: -47 is the match limit.</summary>
    /// <param name="groups">Start and end of each group, -1 where it took no part.</param>
    public int Match(ReadOnlySpan<byte> subject, Span<int> groups)
    {
        Pcre2.Thread t = Pcre2.OfThread();
        byte none = 0;
        int count;
        fixed (byte* p = subject)
        {
            // What was compiled to machine code is entered at once, past the checks of the general entry.
            var match = _isNative ? Pcre2.s_jitMatch : Pcre2.s_match;
            count = match(_code, p == null ? &none : p, (nuint)subject.Length, 0, 0, t.MatchData, t.MatchContext);
        }
        if (count < 0)
        {
            return count == -1 ? 0 : count;
        }
        nuint* vector = Pcre2.s_getOvector(t.MatchData);
        for (int i = 0; i < groups.Length / 2; i++)
        {
            bool set = i < count && vector[2 * i] != nuint.MaxValue;
            groups[2 * i] = set ? (int)vector[2 * i] : -1;
            groups[2 * i + 1] = set ? (int)vector[2 * i + 1] : -1;
        }
        return Math.Max(count, 1);
    }

    public void Dispose()
    {
        if (_code != 0)
        {
            Pcre2.s_codeFree(_code);
            _code = 0;
        }
    }
}

/// <summary>Compiling of patterns.</summary>
public static unsafe class Pcre2
{
    /// <summary>Backtracking steps one match may take before it fails with -47.</summary>
    public const uint MatchLimit = 200_000;

    private const uint Caseless = 0x00000008;
    private const int MaxGroups = 32;

    private static delegate* unmanaged<byte*, nuint, uint, int*, nuint*, nint, nint> s_compile;
    private static delegate* unmanaged<nint, uint, int> s_jit;
    private static delegate* unmanaged<nint, uint, void*, int> s_info;
    private static delegate* unmanaged<int, byte*, nuint, int> s_message;
    private static delegate* unmanaged<uint, nint, nint> s_matchDataCreate;
    private static delegate* unmanaged<nint, nint> s_matchContextCreate;
    private static delegate* unmanaged<nint, uint, int> s_setMatchLimit;
    internal static delegate* unmanaged<nint, byte*, nuint, nuint, uint, nint, nint, int> s_match;
    internal static delegate* unmanaged<nint, byte*, nuint, nuint, uint, nint, nint, int> s_jitMatch;
    internal static delegate* unmanaged<nint, nuint*> s_getOvector;
    internal static delegate* unmanaged<nint, void> s_codeFree;
    private static readonly Lock s_lock = new();
    private static string? s_loadError;
    private static bool s_loaded;

    [ThreadStatic]
    private static Thread? t_thread;

    internal sealed class Thread
    {
        internal nint MatchData;
        internal nint MatchContext;
    }

    internal static Thread OfThread()
    {
        if (t_thread is null)
        {
            nint context = s_matchContextCreate(0);
            s_setMatchLimit(context, MatchLimit);
            t_thread = new Thread { MatchData = s_matchDataCreate(MaxGroups, 0), MatchContext = context };
        }
        return t_thread;
    }

    /// <summary>Compiles; null with PCRE2's message and the offset of the fault.</summary>
    public static Pcre2Pattern? Compile(ReadOnlySpan<byte> pattern, bool caseless, out string? error, out int offset)
    {
        offset = 0;
        error = Load();
        if (error is not null)
        {
            return null;
        }
        int code;
        nuint at;
        nint compiled;
        byte none = 0;
        fixed (byte* p = pattern)
        {
            compiled = s_compile(p == null ? &none : p, (nuint)pattern.Length, caseless ? Caseless : 0, &code, &at, 0);
        }
        if (compiled == 0)
        {
            byte* text = stackalloc byte[256];
            int n = s_message(code, text, 256);
            error = Encoding.Latin1.GetString(text, Math.Max(n, 0));
            offset = (int)at;
            return null;
        }
        // Where the JIT is not available the interpreter serves.
        bool isNative = s_jit(compiled, 1) == 0;
        uint captures;
        s_info(compiled, 4, &captures);
        return new Pcre2Pattern(compiled, isNative, (int)captures, NamesOf(compiled));
    }

    private static (string, int)[] NamesOf(nint compiled)
    {
        uint count;
        uint entrySize;
        byte* table;
        s_info(compiled, 17, &count);
        s_info(compiled, 18, &entrySize);
        s_info(compiled, 19, &table);
        var names = new (string, int)[count];
        for (int i = 0; i < names.Length; i++, table += entrySize)
        {
            names[i] = (Marshal.PtrToStringUTF8((nint)(table + 2))!, (table[0] << 8) | table[1]);
        }
        return names;
    }

    private static string? Load()
    {
        lock (s_lock)
        {
            if (s_loaded || s_loadError is not null)
            {
                return s_loadError;
            }
            if (!NativeLibrary.TryLoad("libpcre2-8.so.0", out nint library))
            {
                return s_loadError = "using regex requires PCRE library: libpcre2-8.so.0 is missing "
                    + "(Debian: apt-get install libpcre2-8-0)";
            }
            s_compile = (delegate* unmanaged<byte*, nuint, uint, int*, nuint*, nint, nint>)Export(library, "compile");
            s_jit = (delegate* unmanaged<nint, uint, int>)Export(library, "jit_compile");
            s_info = (delegate* unmanaged<nint, uint, void*, int>)Export(library, "pattern_info");
            s_message = (delegate* unmanaged<int, byte*, nuint, int>)Export(library, "get_error_message");
            s_matchDataCreate = (delegate* unmanaged<uint, nint, nint>)Export(library, "match_data_create");
            s_matchContextCreate = (delegate* unmanaged<nint, nint>)Export(library, "match_context_create");
            s_setMatchLimit = (delegate* unmanaged<nint, uint, int>)Export(library, "set_match_limit");
            s_match = (delegate* unmanaged<nint, byte*, nuint, nuint, uint, nint, nint, int>)Export(library, "match");
            s_jitMatch =
                (delegate* unmanaged<nint, byte*, nuint, nuint, uint, nint, nint, int>)Export(library, "jit_match");
            s_getOvector = (delegate* unmanaged<nint, nuint*>)Export(library, "get_ovector_pointer");
            s_codeFree = (delegate* unmanaged<nint, void>)Export(library, "code_free");
            s_loaded = true;
            return null;
        }
    }

    private static nint Export(nint library, string name) => NativeLibrary.GetExport(library, $"pcre2_{name}_8");
}
