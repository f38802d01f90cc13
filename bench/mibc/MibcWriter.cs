// The form of the file: an assembly whose global methods are never run. For each method of a profile their IL loads its
// token, a string that says what follows, the numbers, and a string that says where they end; one of them, the
// dictionary, loads the tokens of the others, which are grouped by the assemblies that a reader must know.
// (dotnet/runtime, src/coreclr/tools/dotnet-pgo and the reader in ilc.)
using System.Reflection;
using System.Reflection.Emit;

namespace Weir.Bench.Mibc;

internal sealed class MibcWriter
{
    private const int EveryField = 0xF; // place, kind, count and other of a counter are all told
    private const int NoType = 0, UnknownType = 1;

    private readonly RuntimeNames _names;
    private readonly PersistedAssemblyBuilder _assembly;
    private readonly ModuleBuilder _module;
    private readonly SortedDictionary<string, MethodBuilder> _groups = new(StringComparer.Ordinal);

    internal MibcWriter(RuntimeNames names)
    {
        _names = names;
        _assembly = new PersistedAssemblyBuilder(new AssemblyName("weir"), typeof(object).Assembly);
        _module = _assembly.DefineDynamicModule("weir");
    }

    /// <summary>Methods that no name led to.</summary>
    internal int Unknown { get; private set; }

    internal bool TryWrite(MethodCounts counts)
    {
        MethodBase? method = _names.FindMethod(counts);
        if (method is null)
        {
            Unknown++;
            return false;
        }
        ILGenerator il = Group(method).GetILGenerator();
        LoadToken(il, method);
        il.Emit(OpCodes.Ldstr, "InstrumentationDataStart");
        foreach (Counter counter in counts.Counters)
        {
            // Methods that delegates led to are told by names that may mean several.
            if (counter.IsNumber || counter.IsNumbers || counter.IsTypes)
            {
                Write(il, counter);
            }
        }
        il.Emit(OpCodes.Ldstr, "InstrumentationDataEnd");
        il.Emit(OpCodes.Pop);
        return true;
    }

    internal void Save(string file)
    {
        ILGenerator dictionary = Define("AssemblyDictionary").GetILGenerator();
        foreach ((string assemblies, MethodBuilder group) in _groups)
        {
            group.GetILGenerator().Emit(OpCodes.Ret);
            dictionary.Emit(OpCodes.Ldstr, assemblies);
            dictionary.Emit(OpCodes.Ldtoken, group);
            dictionary.Emit(OpCodes.Pop);
        }
        dictionary.Emit(OpCodes.Ret);
        _module.CreateGlobalFunctions();
        _assembly.Save(file);
    }

    private void Write(ILGenerator il, Counter counter)
    {
        il.Emit(OpCodes.Ldc_I4, EveryField);
        il.Emit(OpCodes.Ldc_I4, counter.Offset);
        il.Emit(OpCodes.Ldc_I4, counter.Kind);
        il.Emit(OpCodes.Ldc_I4, counter.Count);
        il.Emit(OpCodes.Ldc_I4, counter.Other);
        if (counter.IsNumber)
        {
            // Of many runs together: what counts is how they compare.
            il.Emit(OpCodes.Ldc_I4, (int)Math.Min(counter.Value, int.MaxValue));
        }
        foreach (long value in counter.Values)
        {
            if (value is >= int.MinValue and <= int.MaxValue)
            {
                il.Emit(OpCodes.Ldc_I4, (int)value);
            }
            else
            {
                il.Emit(OpCodes.Ldc_I8, value);
            }
        }
        foreach (string? name in counter.Names)
        {
            if (name is not null && _names.FindType(name) is { } type)
            {
                il.Emit(OpCodes.Ldtoken, type);
            }
            else
            {
                il.Emit(OpCodes.Ldc_I4, name is null ? NoType : UnknownType);
            }
        }
    }

    private void LoadToken(ILGenerator il, MethodBase method)
    {
        if (method is MethodInfo info)
        {
            il.Emit(OpCodes.Ldtoken, info);
        }
        else
        {
            il.Emit(OpCodes.Ldtoken, _module.GetMethodMetadataToken((ConstructorInfo)method));
        }
    }

    private MethodBuilder Group(MethodBase method)
    {
        var others = new SortedSet<string>(StringComparer.Ordinal);
        Collect(method.DeclaringType!, others);
        string defining = method.DeclaringType!.Assembly.GetName().Name!;
        others.Remove(defining);
        string name = $"{defining};{string.Concat(others.Select(static o => o + ";"))}";
        if (!_groups.TryGetValue(name, out MethodBuilder? group))
        {
            group = Define($"Assemblies_{name}_{_groups.Count}");
            _groups[name] = group;
        }
        return group;
    }

    private MethodBuilder Define(string name) => _module.DefineGlobalMethod(name,
        MethodAttributes.Public | MethodAttributes.Static, typeof(void), Type.EmptyTypes);

    private void Collect(Type type, SortedSet<string> assemblies)
    {
        if (type.GetElementType() is { } element)
        {
            Collect(element, assemblies);
        }
        else if (!type.IsPrimitive && type != _names.Shared)
        {
            assemblies.Add(type.Assembly.GetName().Name!);
            foreach (Type argument in type.GetGenericArguments())
            {
                Collect(argument, assemblies);
            }
        }
    }
}
