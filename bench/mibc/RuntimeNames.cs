// Finds what the runtime's names mean: Namespace.Outer`1+Nested[Argument,Argument].Method for methods, and for types
// their assembly-qualified names.
using System.Reflection;
using System.Reflection.Emit;

namespace Weir.Bench.Mibc;

internal sealed class RuntimeNames
{
    private const BindingFlags Declared = BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Instance
        | BindingFlags.Static | BindingFlags.DeclaredOnly;

    private readonly Dictionary<string, Assembly> _assemblies = [];
    private readonly Dictionary<string, Type?> _types = [];

    internal RuntimeNames(string directory)
    {
        AppDomain.CurrentDomain.AssemblyResolve +=
            (_, e) => _assemblies.GetValueOrDefault(new AssemblyName(e.Name).Name!);
        string own = (string)AppContext.GetData("TRUSTED_PLATFORM_ASSEMBLIES")!;
        IEnumerable<Assembly> assemblies = Directory.GetFiles(directory, "*.dll").Select(Assembly.LoadFrom)
            .Concat(own.Split(':').Select(f => Assembly.Load(Path.GetFileNameWithoutExtension(f))));
        foreach (Assembly assembly in assemblies)
        {
            _assemblies.TryAdd(assembly.GetName().Name!, assembly);
        }
        Shared = MakeShared();
        _types["System.__Canon"] = Shared;
    }

    /// <summary>Stands for every reference type in code that they share. The compiler looks for it in an assembly that
    /// does not exist.</summary>
    internal Type Shared { get; }

    private static Type MakeShared()
    {
        var assembly = new PersistedAssemblyBuilder(new AssemblyName("System.Private.Canon"), typeof(object).Assembly);
        assembly.DefineDynamicModule("System.Private.Canon")
            .DefineType("System.__Canon", TypeAttributes.Public, typeof(object)).CreateType();
        var bytes = new MemoryStream();
        assembly.Save(bytes);
        return Assembly.Load(bytes.ToArray()).GetType("System.__Canon", throwOnError: true)!;
    }

    /// <summary>The type of an assembly-qualified name, or null.</summary>
    internal Type? FindType(string qualified)
    {
        try
        {
            return Type.GetType(
                qualified, name => _assemblies.GetValueOrDefault(name.Name!), null, throwOnError: false);
        }
        catch (Exception e) when (e is IOException or ArgumentException or TypeLoadException)
        {
            return null;
        }
    }

    /// <summary>The one method of this name, size and number of parameters; null where there is none, or several. The
    /// name of a generic one does not tell its arguments.</summary>
    internal MethodBase? FindMethod(MethodCounts counts)
    {
        if (counts.Signature.Contains(" generic ", StringComparison.Ordinal)
            || Split(counts.Name) is not ({ } type, { } name))
        {
            return null;
        }
        Type definition = type.IsConstructedGenericType ? type.GetGenericTypeDefinition() : type;
        MethodBase[] found =
        [
            .. definition.GetMembers(Declared).OfType<MethodBase>().Where(m => m.Name == name
                && !m.IsGenericMethodDefinition
                && m.GetMethodBody()?.GetILAsByteArray()?.Length == counts.ILBytes
                && m.GetParameters().Length == CountParameters(counts.Signature)),
        ];
        return found.Length != 1 ? null : type == definition ? found[0]
            : type.GetMembers(Declared).OfType<MethodBase>().First(m => m.MetadataToken == found[0].MetadataToken);
    }

    /// <summary>Names of methods have dots where an interface's is meant, and constructors begin with one.</summary>
    private (Type? Type, string? Method) Split(string name)
    {
        int end = Math.Max(name.LastIndexOf(']'), 0);
        for (int dot = name.LastIndexOf('.'); dot > end; dot = name.LastIndexOf('.', dot - 1))
        {
            int at = dot > 0 && name[dot - 1] == '.' ? dot - 1 : dot;
            if (Parse(name[..at]) is { } type)
            {
                return (type, name[(at + 1)..]);
            }
        }
        // The dot at once behind the arguments.
        return end > 0 && end + 1 < name.Length && Parse(name[..(end + 1)]) is { } generic
            ? (generic, name[(end + 2)..]) : (null, null);
    }

    private Type? Parse(string name)
    {
        int at = 0;
        try
        {
            return Parse(name, ref at);
        }
        catch (ArgumentException)
        {
            return null; // arguments that the type does not take
        }
    }

    private Type? Parse(string name, ref int at)
    {
        int start = at, angles = 0;
        // A compiler's own names have brackets of another kind, with anything between them.
        for (; at < name.Length && (angles > 0 || !"[],*&".Contains(name[at])); at++)
        {
            angles += name[at] == '<' ? 1 : name[at] == '>' ? -1 : 0;
        }
        Type? type = Find(name[start..at]);
        while (type is not null && at < name.Length && name[at] is '[' or '*' or '&')
        {
            char mark = name[at++];
            if (mark != '[')
            {
                type = mark == '*' ? type.MakePointerType() : type.MakeByRefType();
            }
            else if (name[at] == ']')
            {
                at++;
                type = type.MakeArrayType();
            }
            else
            {
                var arguments = new List<Type>();
                do
                {
                    if (Parse(name, ref at) is not { } argument)
                    {
                        return null;
                    }
                    arguments.Add(argument);
                }
                while (name[at++] == ',');
                type = type.MakeGenericType([.. arguments]);
            }
        }
        return type;
    }

    private Type? Find(string name)
    {
        if (!_types.TryGetValue(name, out Type? type))
        {
            type = _assemblies.Values.Select(a => a.GetType(name, throwOnError: false))
                .FirstOrDefault(static t => t is not null);
            _types[name] = type;
        }
        return type;
    }

    private static int CountParameters(string signature)
    {
        int depth = 0, count = 1, start = signature.LastIndexOf("  (", StringComparison.Ordinal) + 3;
        foreach (char c in signature.AsSpan(start))
        {
            depth += c is '<' or '(' or '[' ? 1 : c is '>' or ')' or ']' ? -1 : 0;
            count += c == ',' && depth == 0 ? 1 : 0;
        }
        return signature[start] == ')' ? 0 : count;
    }
}
