// Names of shared zones as nginx keeps them: one name, one use, over all modules of a configuration. A zone may be
// named before the directive that defines it; one that is never defined is an error at the end. Used while a
// configuration is read, by the thread that builds it.
using Weir.Conf;
using Weir.Kernel;
using Weir.Zones;

namespace Weir.Http;

/// <summary>The zones of one build by name.</summary>
public sealed class SharedZones
{
    private readonly Dictionary<string, (string Use, object Data)> _named = new(StringComparer.Ordinal);

    /// <summary>What a use keeps under a name, made when the name is met first; null after an error.</summary>
    public T? Get<T>(string name, string use, Func<string, T> make, ConfWalker walker, ConfSpan span) where T : class
    {
        if (!_named.TryGetValue(name, out (string Use, object Data) known))
        {
            known = (use, make(name));
            _named.Add(name, known);
        }
        if (known.Use == use && known.Data is T data)
        {
            return data;
        }
        walker.Error(span, $"the shared memory zone \"{name}\" is already declared for a different use");
        return null;
    }

    /// <summary>Reads the `name:size` of a zone= parameter.</summary>
    public static bool TryParse(ConfWalker walker, ConfArg arg, string text, out string name, out long bytes)
    {
        int colon = text.IndexOf(':');
        name = colon < 0 ? text : text[..colon];
        bytes = 0;
        if (colon < 0 || !ConfValues.TrySize(text.AsSpan(colon + 1), out bytes))
        {
            walker.Error(arg, $"invalid zone size \"{arg.Text}\"");
            return false;
        }
        if (bytes < Zone.SizeBytesMin)
        {
            walker.Error(arg, $"zone \"{name}\" is too small");
            return false;
        }
        bytes = Math.Min(bytes & ~(Zone.PageBytes - 1L), Zone.SizeBytesMax);
        return true;
    }

    /// <summary>Tells apart what has the same name and size but other content: nginx refuses such a reload, here it
    /// starts with an empty zone.</summary>
    public static ulong LayoutOf(ulong layout, string content)
    {
        ulong hash = 14695981039346656037;
        foreach (char c in content)
        {
            hash = (hash ^ c) * 1099511628211;
        }
        return (layout << 48) ^ (hash >> 16);
    }
}
