// The public surface of an assembly as lines of text, and its comparison with the list that is kept beside the source.
// WEIR_UPDATE_API=1 writes the list anew.
using System.Reflection;
using System.Text;

namespace Weir.Tests.Harness;

/// <summary>Lists public surfaces.</summary>
public static class PublicSurface
{
    private const BindingFlags Declared = BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Instance
        | BindingFlags.Static | BindingFlags.DeclaredOnly;

    /// <summary>What differs between an assembly and the list in src/NAME/PublicAPI.txt; null for nothing.</summary>
    public static string? Changes(Assembly assembly)
    {
        string path = Path.Combine(Root(), $"src/{assembly.GetName().Name}/PublicAPI.txt");
        string[] actual = [.. Lines(assembly).SelectMany(Wrapped)];
        if (Environment.GetEnvironmentVariable("WEIR_UPDATE_API") == "1")
        {
            File.WriteAllLines(path, actual);
        }
        string[] written = File.ReadAllLines(path);
        // A continuation line may be anybody's: order and number count too.
        string[] added = [.. actual.Except(written)];
        string[] removed = [.. written.Except(actual)];
        return written.SequenceEqual(actual) ? null
            : "the public surface changed; if that is meant, run the test with WEIR_UPDATE_API=1\n"
            + string.Join('\n', added.Select(static l => "+ " + l).Concat(removed.Select(static l => "- " + l)));
    }

    private static IEnumerable<string> Wrapped(string line)
    {
        const int columns = 120;
        while (line.Length > columns)
        {
            int at = line.LastIndexOf(", ", columns - 2, StringComparison.Ordinal) + 1;
            yield return line[..at];
            line = "   " + line[at..];
        }
        yield return line;
    }

    private static IEnumerable<string> Lines(Assembly assembly)
    {
        foreach (Type type in assembly.GetExportedTypes().OrderBy(static t => t.FullName, StringComparer.Ordinal))
        {
            yield return $"{Kind(type)} {Name(type)}{Bases(type)}";
            IEnumerable<string> members = type.IsEnum
                ? Enum.GetNames(type).Select(n => $"{n} = {Convert.ToInt64(Enum.Parse(type, n))}")
                : type.GetMembers(Declared).Select(Line).OfType<string>();
            foreach (string member in members.Order(StringComparer.Ordinal))
            {
                yield return $"{Name(type)}: {member}";
            }
        }
    }

    private static string Kind(Type type) => type.IsEnum ? "enum" : type.IsInterface ? "interface"
        : type.IsValueType ? "struct" : type.IsAbstract && type.IsSealed ? "static class"
        : type.IsAbstract ? "abstract class" : type.IsSealed ? "sealed class" : "class";

    private static string Bases(Type type)
    {
        if (type.IsEnum)
        {
            return " : " + Name(Enum.GetUnderlyingType(type));
        }
        var bases = new List<string>();
        if (type.BaseType is { } parent && parent != typeof(object) && parent != typeof(ValueType))
        {
            bases.Add(Name(parent));
        }
        bases.AddRange(type.GetInterfaces().Where(static i => i.IsPublic).Select(Name).Order(StringComparer.Ordinal));
        return bases.Count == 0 ? "" : " : " + string.Join(", ", bases);
    }

    private static string? Line(MemberInfo member) => member switch
    {
        ConstructorInfo c when Seen(c) => $"{Access(c)}new({Parameters(c)})",
        MethodInfo m when Seen(m) && (!m.IsSpecialName || m.Name.StartsWith("op_", StringComparison.Ordinal)) =>
            $"{Access(m)}{Name(m.ReturnType)} {m.Name}({Parameters(m)})",
        PropertyInfo p => Property(p),
        FieldInfo f when f.IsPublic || f.IsFamily => $"{(f.IsStatic ? "static " : "")}{Name(f.FieldType)} {f.Name}",
        _ => null,
    };

    private static string? Property(PropertyInfo p)
    {
        MethodInfo? get = p.GetMethod is { } g && Seen(g) ? g : null;
        MethodInfo? set = p.SetMethod is { } s && Seen(s) ? s : null;
        if (get is null && set is null)
        {
            return null;
        }
        bool init = set?.ReturnParameter.GetRequiredCustomModifiers().Length > 0;
        string index = p.GetIndexParameters() is { Length: > 0 } list ? $"[{string.Join(", ", list.Select(One))}]" : "";
        return $"{Access((get ?? set)!)}{Name(p.PropertyType)} {p.Name}{index} {{{(get is null ? "" : " get;")}"
            + $"{(set is null ? "" : init ? " init;" : " set;")} }}";
    }

    private static bool Seen(MethodBase m) => m.IsPublic || m.IsFamily || m.IsFamilyOrAssembly;

    private static string Access(MethodBase m)
    {
        var text = new StringBuilder();
        text.Append(m.IsPublic ? "" : "protected ");
        text.Append(m.IsStatic ? "static " : m.IsAbstract && !m.DeclaringType!.IsInterface ? "abstract "
            : m.IsVirtual && !m.IsFinal && !m.DeclaringType!.IsInterface ? "virtual " : "");
        return text.ToString();
    }

    private static string Parameters(MethodBase m) => string.Join(", ", m.GetParameters().Select(One));

    private static string One(ParameterInfo p) =>
        $"{(p.IsOut ? "out " : p.IsIn ? "in " : p.ParameterType.IsByRef ? "ref " : "")}{Name(p.ParameterType)} {p.Name}"
        + (p.HasDefaultValue ? " = " + (p.DefaultValue ?? "default") : "");

    private static string Name(Type type)
    {
        if (type.IsByRef)
        {
            return Name(type.GetElementType()!);
        }
        if (type.IsArray)
        {
            return Name(type.GetElementType()!) + "[]";
        }
        if (type.IsGenericType)
        {
            return $"{type.Name.Split('`')[0]}<{string.Join(", ", type.GetGenericArguments().Select(Name))}>";
        }
        return type.Name;
    }

    private static string Root()
    {
        string directory = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(directory, "Weir.slnx")))
        {
            directory = Path.GetDirectoryName(directory) ?? throw new DirectoryNotFoundException("Weir.slnx");
        }
        return directory;
    }
}
