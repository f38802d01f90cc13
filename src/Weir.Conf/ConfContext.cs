// Where a directive may stand and how many arguments it takes: the two columns of nginx's command tables, as values.
namespace Weir.Conf;

/// <summary>The kinds of block a directive can stand in. Names as in nginx's documentation.</summary>
[Flags]
public enum ConfContext
{
    None = 0,
    Main = 1 << 0,
    Events = 1 << 1,
    Http = 1 << 2,

    /// <summary>A server of http.</summary>
    Server = 1 << 3,
    Location = 1 << 4,
    IfInServer = 1 << 5,
    IfInLocation = 1 << 6,
    LimitExcept = 1 << 7,

    /// <summary>An upstream of http.</summary>
    Upstream = 1 << 8,
    Stream = 1 << 9,
    StreamServer = 1 << 10,
    StreamUpstream = 1 << 11,
    Mail = 1 << 12,
    MailServer = 1 << 13,

    HttpAny = Http | Server | Location | IfInServer | IfInLocation | LimitExcept | Upstream,
    HttpServerLocation = Http | Server | Location,
    StreamAny = Stream | StreamServer | StreamUpstream,
    MailAny = Mail | MailServer,
    Any = (1 << 14) - 1,
}

public static class ConfContexts
{
    private const int Count = 14;

    /// <summary>The name of one context, as people and nginx-directives.tsv write it.</summary>
    public static string Name(ConfContext one) => one switch
    {
        ConfContext.Main => "main",
        ConfContext.Events => "events",
        ConfContext.Http => "http",
        ConfContext.Server => "server",
        ConfContext.Location => "location",
        ConfContext.IfInServer => "if-in-server",
        ConfContext.IfInLocation => "if-in-location",
        ConfContext.LimitExcept => "limit_except",
        ConfContext.Upstream => "upstream",
        ConfContext.Stream => "stream",
        ConfContext.StreamServer => "stream-server",
        ConfContext.StreamUpstream => "stream-upstream",
        ConfContext.Mail => "mail",
        ConfContext.MailServer => "mail-server",
        _ => "any",
    };

    /// <summary>All names, joined: <c>http, server, location</c>.</summary>
    public static string Names(ConfContext contexts, string separator = ", ")
    {
        if (contexts == ConfContext.Any)
        {
            return "any";
        }
        List<string> names = [];
        for (int bit = 0; bit < Count; bit++)
        {
            if (((int)contexts & (1 << bit)) != 0)
            {
                names.Add(Name((ConfContext)(1 << bit)));
            }
        }
        return string.Join(separator, names);
    }
}

/// <summary>How many arguments: a set of counts, or one of the open forms.</summary>
[Flags]
public enum ConfArity
{
    None = 0,
    Zero = 1 << 0,
    One = 1 << 1,
    Two = 1 << 2,
    Three = 1 << 3,
    Four = 1 << 4,
    Five = 1 << 5,
    Six = 1 << 6,
    Seven = 1 << 7,

    /// <summary>One argument, "on" or "off".</summary>
    Flag = 1 << 8,
    OneOrMore = 1 << 9,
    TwoOrMore = 1 << 10,
    Any = 1 << 11,

    OneOrTwo = One | Two,
    OneToThree = One | Two | Three,
}

public static class ConfArities
{
    private const int FixedMax = 7;

    public static bool Accepts(this ConfArity arity, int arguments) => arity switch
    {
        _ when (arity & ConfArity.Any) != 0 => true,
        _ when (arity & ConfArity.Flag) != 0 => arguments == 1,
        _ when (arity & ConfArity.OneOrMore) != 0 => arguments >= 1,
        _ when (arity & ConfArity.TwoOrMore) != 0 => arguments >= 2,
        _ => arguments <= FixedMax && ((int)arity & (1 << arguments)) != 0,
    };

    /// <summary>For people: <c>one or two arguments</c>.</summary>
    public static string Describe(ConfArity arity)
    {
        switch (arity)
        {
            case ConfArity.Any:
                return "any number of arguments";
            case ConfArity.Flag:
                return "one argument, \"on\" or \"off\"";
            case ConfArity.OneOrMore:
                return "at least one argument";
            case ConfArity.TwoOrMore:
                return "at least two arguments";
        }
        List<string> counts = [];
        for (int count = 0; count <= FixedMax; count++)
        {
            if (((int)arity & (1 << count)) != 0)
            {
                counts.Add(count == 0 ? "no" : count.ToString());
            }
        }
        string last = counts.Count > 0 ? counts[^1] : "no";
        string list = counts.Count > 1 ? string.Join(", ", counts.Take(counts.Count - 1)) + " or " + last : last;
        return list + (arity == ConfArity.One ? " argument" : " arguments");
    }
}
