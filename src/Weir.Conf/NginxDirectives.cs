// Every directive of nginx 1.31.5: where it may stand, how many arguments it takes, whether it opens a block. The table
// is constant data in the binary (NginxDirectives.g.cs), searched by name and context; nothing is built at start.
// Any thread. What Weir itself supports is DirectiveRegistry's business.
using System.Text;

namespace Weir.Conf;

/// <summary>One row of nginx's table.</summary>
public readonly record struct NginxDirective(string Name, ConfContext Contexts, ConfArity Arity, bool IsBlock,
    bool IsFreeBlock, string Module, string Condition);

public static partial class NginxDirectives
{
    public static int Count => Rows.Length;

    /// <summary>A row by its index in the order of names.</summary>
    public static NginxDirective Row(int index)
    {
        ulong row = Rows[index];
        return new NginxDirective(
            Encoding.ASCII.GetString(NameOf(row)),
            ContextsOf(row),
            (ConfArity)((row >> 14) & 0xFFF),
            (row & (1 << 26)) != 0,
            (row & (1 << 27)) != 0,
            ModuleName((int)((row >> 28) & 0xFF)),
            ConditionName((int)((row >> 36) & 0xF)));
    }

    public static bool IsKnown(string name) => First(name) >= 0;

    /// <summary>The row of this name that is allowed in this context.</summary>
    public static bool TryFind(string name, ConfContext context, out NginxDirective directive)
    {
        for (int i = First(name); i >= 0 && i < Rows.Length && Compare(name, NameOf(Rows[i])) == 0; i++)
        {
            if ((ContextsOf(Rows[i]) & context) != 0)
            {
                directive = Row(i);
                return true;
            }
        }
        directive = default;
        return false;
    }

    /// <summary>Everywhere nginx allows this name; none when it does not know it.</summary>
    public static ConfContext ContextsOf(string name)
    {
        ConfContext contexts = ConfContext.None;
        for (int i = First(name); i >= 0 && i < Rows.Length && Compare(name, NameOf(Rows[i])) == 0; i++)
        {
            contexts |= ContextsOf(Rows[i]);
        }
        return contexts;
    }

    /// <summary>
    /// The context inside a block directive that stands in <paramref name="context"/>; none for a free block.
    /// </summary>
    public static ConfContext Opens(string name, ConfContext context) => (name, context) switch
    {
        ("events", ConfContext.Main) => ConfContext.Events,
        ("http", ConfContext.Main) => ConfContext.Http,
        ("stream", ConfContext.Main) => ConfContext.Stream,
        ("mail", ConfContext.Main) => ConfContext.Mail,
        ("server", ConfContext.Http) => ConfContext.Server,
        ("server", ConfContext.Stream) => ConfContext.StreamServer,
        ("server", ConfContext.Mail) => ConfContext.MailServer,
        ("upstream", ConfContext.Http) => ConfContext.Upstream,
        ("upstream", ConfContext.Stream) => ConfContext.StreamUpstream,
        ("location", ConfContext.Server or ConfContext.Location) => ConfContext.Location,
        ("if", ConfContext.Server) => ConfContext.IfInServer,
        ("if", ConfContext.Location) => ConfContext.IfInLocation,
        ("limit_except", ConfContext.Location) => ConfContext.LimitExcept,
        _ => ConfContext.None,
    };

    private static ReadOnlySpan<byte> NameOf(ulong row) =>
        Names.Slice((int)((row >> 40) & 0xFFFF), (int)(row >> 56));

    private static ConfContext ContextsOf(ulong row) => (ConfContext)(row & 0x3FFF);

    /// <summary>The first row of a name, or −1.</summary>
    private static int First(string name)
    {
        int low = 0;
        int high = Rows.Length;
        while (low < high)
        {
            int middle = (low + high) >>> 1;
            if (Compare(name, NameOf(Rows[middle])) > 0)
            {
                low = middle + 1;
            }
            else
            {
                high = middle;
            }
        }
        return low < Rows.Length && Compare(name, NameOf(Rows[low])) == 0 ? low : -1;
    }

    private static int Compare(string text, ReadOnlySpan<byte> name)
    {
        int shared = Math.Min(text.Length, name.Length);
        for (int i = 0; i < shared; i++)
        {
            if (text[i] != name[i])
            {
                return text[i] - name[i];
            }
        }
        return text.Length - name.Length;
    }
}
